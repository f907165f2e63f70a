"""swiglu: SiLU(gate) · up (2002.05202), gate and up side by side as one product makes them, and their gradients so too.

Shapes: F hidden; whatever stands before is kept.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nanoschool.core.graph import by_hand


def swiglu(gate_up: Tensor) -> Tensor:
    """(…, 2 F) -> (…, F)."""
    if by_hand(gate_up):
        return _SwiGLU.apply(gate_up)
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (g,), (gate_up,) = gradients, ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        d = torch.empty_like(gate_up)
        dgate, dup = d.chunk(2, dim=-1)
        torch.mul(g, F.silu(gate), out=dup)
        torch.ops.aten.silu_backward.grad_input(g * up, gate, grad_input=dgate)
        return d
