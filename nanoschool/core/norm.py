"""norm: RMSNorm (1910.07467) and rotary positions (2104.09864), their gradients in as few passes over memory as it takes.

Shapes: D width, K head width; whatever stands before them is kept.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanoschool.core.graph import by_hand


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """x / rms(x) times the gain, computed in float32, in `dtype`."""
        if by_hand(x):
            return _Normed.apply(x, self.weight, self.eps, dtype)
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps).to(dtype)


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain_D: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        wide = x.float()
        scale = (wide.square().mean(-1, keepdim=True) + eps).rsqrt_()
        unit = wide * scale
        ctx.save_for_backward(unit, scale, gain_D)
        ctx.dtype = x.dtype
        return (unit * gain_D).to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        unit, scale, gain_D = ctx.saved_tensors
        g = gradients[0].float()
        along = g * unit
        dgain_D = along.flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        mean = (along @ gain_D / gain_D.numel()).unsqueeze(-1)
        dx = torch.addcmul(g * gain_D, unit, mean, value=-1).mul_(scale)
        return dx.to(ctx.dtype), dgain_D, None, None


def rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """The half-split convention: dimension i turns with dimension i + K/2 by the angle whose cos and sin `rope` holds."""
    if by_hand(x):
        return _Rotated.apply(x.float(), *rope)
    (a, b), (cos, sin) = x.float().chunk(2, dim=-1), (each.chunk(2, dim=-1)[0] for each in rope)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class _Rotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return (
            _turned(gradients[0], *ctx.saved_tensors, -1),
            None,
            None,
        )  # the inverse of a rotation is its transpose


def _turned(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    half = x.shape[-1] // 2
    (a, b), cos, sin = x.split(half, dim=-1), cos[..., :half], sin[..., :half]
    turned = torch.empty_like(x, memory_format=torch.contiguous_format)
    torch.addcmul(a * cos, b, sin, value=-sign, out=turned[..., :half])
    torch.addcmul(b * cos, a, sin, value=sign, out=turned[..., half:])
    return turned
