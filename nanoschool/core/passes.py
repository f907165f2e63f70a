"""passes: the work of training that only goes over memory, in C for a CPU (passes.c), float32 or bfloat16 in and out.

Their gradients have no gradients of their own.

Shapes: D width, K head width, F hidden, N heads of all rows, S queries, E keys; whatever stands before them is kept.
"""

from ctypes import CDLL
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from nanoschool.core.c import AT, FLOAT, LONG, at, compiled
from nanoschool.core.graph import by_hand

SOURCE = Path(__file__).with_name("passes.c")
BITS = {torch.bfloat16: 16, torch.float32: 32}
CHUNK = 64  # tokens whose gradients of a gain are summed at once
FUNCTIONS = {
    "normed": (LONG, LONG, LONG, AT, LONG, AT, FLOAT, AT, AT),
    "normed_back": (LONG, LONG, LONG, AT, AT, LONG, AT, AT, AT, AT),
    "turned": (LONG, LONG, LONG, AT, AT, AT, LONG, FLOAT, AT),
    "gated": (LONG, LONG, AT, AT),
    "gated_back": (LONG, LONG, AT, AT, AT),
    "softmax": (LONG, LONG, LONG, AT),
}


def check() -> None:
    """UserError where they cannot be compiled here."""
    _c(torch.float32, torch.float32)


def fit(*given: Tensor) -> bool:
    """Do these go through C?"""
    return all(by_hand(x) and x.dtype in BITS for x in given)


def normed(x: Tensor, gain_D: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x / rms(x) times the gain in `dtype`, and what x was scaled by, in float32, (…, 1)."""
    x, layout = _laid_out(x)
    y, scale = torch.empty(x.shape, dtype=dtype), torch.empty(*x.shape[:-1], 1)
    _c(x.dtype, dtype).normed(*layout[:3], at(x), layout[3], at(gain_D), eps, at(scale), at(y))
    return y, scale


def normed_back(g: Tensor, x: Tensor, gain_D: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of x and of the gain."""
    g, (x, layout) = g.contiguous(), _laid_out(x)
    N, H, D, pitch = layout
    dx, dgain_ND = torch.empty(x.shape, dtype=x.dtype), torch.empty(-(-N // CHUNK), D)
    given = (at(g), at(x), pitch, at(gain_D), at(scale))
    _c(x.dtype, g.dtype).normed_back(N, H, D, *given, at(dx), at(dgain_ND))
    return dx, dgain_ND.sum(0)


def turned(x: Tensor, cos_TK: Tensor, sin_TK: Tensor, sign: int) -> Tensor:
    """Half i of each head turned with half i + K/2, (…, H, K) in float32; tokens beyond T begin at the first angle again."""
    x, cos_TK, sin_TK = (each.float().contiguous() for each in (x, cos_TK, sin_TK))
    (H, K), y = x.shape[-2:], torch.empty(x.shape)
    N, T = x.numel() // (H * K), cos_TK.numel() // K
    _c(torch.float32, torch.float32).turned(N, H, K, at(x), at(cos_TK), at(sin_TK), T, sign, at(y))
    return y


def gated(gate_up: Tensor) -> Tensor:
    """silu(gate) up, (…, 2 F) -> (…, F)."""
    gate_up = gate_up.contiguous()
    *before, twice = gate_up.shape
    y = gate_up.new_empty(*before, twice // 2)
    _c(y.dtype, y.dtype).gated(gate_up.numel() // twice, twice // 2, at(gate_up), at(y))
    return y


def gated_back(g: Tensor, gate_up: Tensor) -> Tensor:
    """The gradient of gate_up."""
    g, gate_up = g.contiguous(), gate_up.contiguous()
    d, F = torch.empty_like(gate_up), g.shape[-1]
    _c(g.dtype, g.dtype).gated_back(g.numel() // F, F, at(g), at(gate_up), at(d))
    return d


def causal_softmax_(scores_NSE: Tensor) -> Tensor:
    """In place: query s of S sees the first E - S + s + 1 of E keys."""
    _c(scores_NSE.dtype, scores_NSE.dtype).softmax(*scores_NSE.shape, at(scores_NSE))
    return scores_NSE


@cache
def _c(read: torch.dtype, written: torch.dtype) -> CDLL:
    return compiled(SOURCE, FUNCTIONS, IN=BITS[read], OUT=BITS[written], CHUNK=CHUNK)


def _laid_out(x: Tensor) -> tuple[Tensor, tuple[int, int, int, int]]:
    """(tokens, heads, width, numbers from a token to the next); some heads of a token's are taken as they lie."""
    *before, D = x.shape
    if x.ndim == 4 and x.shape[0] == 1 and x.stride()[2:] == (D, 1):
        return x, (before[1], before[2], D, x.stride(1))
    return x.contiguous(), (x.numel() // D, 1, D, D)
