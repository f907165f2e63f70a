"""swiglu: SiLU(gate) · up (2002.05202), gate and up side by side as one product makes them, and their gradients so too.

Shapes: F hidden; whatever stands before is kept.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nanoschool.core import passes


def swiglu(gate_up: Tensor) -> Tensor:
    """(…, 2 F) -> (…, F)."""
    if passes.fit(gate_up):
        return _SwiGLU.apply(gate_up)
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        return passes.gated(gate_up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return passes.gated_back(gradients[0], *ctx.saved_tensors)
