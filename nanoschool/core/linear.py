"""linear: a matrix product by the faster of the libraries that torch brings along.

In float32 on a CPU torch multiplies with MKL, which leaves AMD's processors half idle (84 of 188 GFLOP/s on one core of
Zen 5); oneDNN does not. It has no float32 operator with a gradient, so that is written here. Everything else, and what
runs under autocast, is torch's own.

oneDNN keeps what it has prepared for every shape it met, 1,024 of them, and rows of all lengths have as many: gigabytes,
and no faster than with 128.
"""

import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanoschool.core.graph import by_hand

for cache in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):  # read at the first product
    os.environ.setdefault(cache, "128")

FEW = 16  # rows below which a call of oneDNN costs more than it saves


class Linear(nn.Linear):
    """nn.Linear without a bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight)


def linear(x: Tensor, weight_OI: Tensor) -> Tensor:
    """x W^T, (…, I) -> (…, O)."""
    if by_hand(x) and _in_float32(x, weight_OI) and has_onednn(x.device):
        return _Product.apply(x.flatten(0, -2), weight_OI).unflatten(0, x.shape[:-1])
    return F.linear(x, weight_OI)


def _in_float32(x: Tensor, weight_OI: Tensor) -> bool:
    """Is it a product in float32 of more than a few rows?"""
    float32 = x.dtype == weight_OI.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
    return float32 and x.shape[-1] > 0 and x.numel() >= FEW * x.shape[-1]


def joined(x: Tensor, parts: Sequence[nn.Module]) -> Tensor:
    """What several projections of x give, side by side; where none has an adapter they are one product."""
    plain = [part.weight for part in parts if isinstance(part, Linear)]
    if len(plain) == len(parts):
        return linear(x, torch.cat(plain))
    return torch.cat([part(x) for part in parts], dim=-1)


def has_onednn(device: torch.device) -> bool:
    return device.type == "cpu" and torch.backends.mkldnn.is_available()


def compute_type(x: Tensor) -> torch.dtype:
    """What products of x are computed in: autocast's type where it is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class _Product(torch.autograd.Function):
    """a b^T, (N, I) and (O, I) -> (N, O)."""

    @staticmethod
    def forward(ctx: Any, a_NI: Tensor, b_OI: Tensor) -> Tensor:
        ctx.save_for_backward(a_NI, b_OI)
        return onednn(a_NI, b_OI)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (g_NO,), (a_NI, b_OI) = gradients, ctx.saved_tensors
        da_NI = onednn(g_NO, b_OI.T) if ctx.needs_input_grad[0] else None
        db_OI = _summed(g_NO, a_NI) if ctx.needs_input_grad[1] else None
        return da_NI, db_OI


def _summed(g_NO: Tensor, a_NI: Tensor) -> Tensor:
    """g^T a, (O, I). The left factor of a product is copied where it stands on its side, so that is the narrower one."""
    if g_NO.shape[1] <= a_NI.shape[1]:
        return onednn(g_NO.T, a_NI.T)
    return onednn(a_NI.T, g_NO.T).T


def onednn(a_NI: Tensor, b_OI: Tensor) -> Tensor:
    """a b^T in float32 on a CPU, without a gradient."""
    return torch.ops.mkldnn._linear_pointwise(a_NI, b_OI, None, "none", [], "")
