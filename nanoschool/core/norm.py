"""norm: RMSNorm (1910.07467) and rotary positions (2104.09864), on a CPU forward and backward in one pass over memory each.

Shapes: D width, K head width; whatever stands before them is kept.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanoschool.core import passes


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """x / rms(x) times the gain, computed in float32, in `dtype`."""
        if passes.fit(x, self.weight):
            return _Normed.apply(x, self.weight.float(), self.eps, dtype)
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps).to(dtype)


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain_D: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        y, scale = passes.normed(x, gain_D, eps, dtype)
        ctx.save_for_backward(x, gain_D, scale)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return *passes.normed_back(gradients[0], *ctx.saved_tensors), None, None


def rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """The half-split convention: dimension i turns with dimension i + K/2 by the angle whose cos and sin `rope` holds."""
    x = x.float()
    if passes.fit(x, *rope):
        return _Turned.apply(x, *rope)
    (a, b), (cos, sin) = x.chunk(2, dim=-1), (each.chunk(2, dim=-1)[0] for each in rope)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class _Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return passes.turned(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return passes.turned(gradients[0], *ctx.saved_tensors, -1), None, None  # its inverse is its transpose
