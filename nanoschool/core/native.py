"""native: a step of the engine whose work between products of matrices is C, each row in one go (native.c).

The same function as `Fused`'s, but for rounding; attention reads of each row's cache what is live. `Fused` reads.
Shapes: N rows, P with what oneDNN wants, D width, H query heads, G key-value heads, K head width, F hidden, V vocabulary.
"""

import ctypes
import math
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from nanoschool.core import attention
from nanoschool.core.c import AT, FLOAT, LONG, at, compiled
from nanoschool.core.cache import Pool
from nanoschool.core.fused import Fused
from nanoschool.core.model import GPT
from nanoschool.types import UserError

PAIR = 32  # positions, or logits, that are read at once
SOURCE = Path(__file__).with_name("native.c")
FUNCTIONS = {
    "attend": (LONG, LONG, LONG, AT, AT, FLOAT, AT, AT, AT, AT, AT),
    "unit": (LONG, LONG, AT, AT, FLOAT, AT),
    "unit_floats": (LONG, LONG, AT, AT, FLOAT, AT),
    "swiglu": (LONG, LONG, AT, AT),
    "draw": (LONG, LONG, AT, FLOAT, AT, AT, AT, AT, AT),
}


class Step(attention.Step):
    shortest = 128  # one pool for most rows: reads stop at a row's own end
    spare = PAIR  # the last positions may be fewer than are read at once

    def _bias(self, pool: Pool, at_B: Tensor) -> None:
        """None: every row's own positions are counted."""


class Native(Fused):
    @torch.inference_mode()
    def __init__(self, model: GPT, dtype: torch.dtype) -> None:
        if model.head.dtype != torch.float32:
            raise UserError(f"native steps read weights in float32, not in {model.head.dtype}: model.float()")
        super().__init__(model, dtype)
        c = self.config
        self.c = library(c.head_width, c.heads // c.kv_heads, dtype == torch.bfloat16)
        self.gains = [_split(w.gain) if w.gain is not None else None for w in self.layers]
        self.cos_sin = _split(torch.view_as_real(self.turns).flatten(1))

    def step(
        self, tokens_B: Tensor, step: attention.Step, temperature: float, u_B: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        def attend(layer: int, qkv_PHK: Tensor) -> Tensor:
            out_PHK = torch.zeros(len(qkv_PHK), c.heads, c.head_width, dtype=self.dtype)
            for block in step.blocks:
                self._attend(layer, block, qkv_PHK[block.first :], out_PHK[block.first :])
            return out_PHK.flatten(1)

        c = self.config
        logits_PV = self.logits(*self.layers_of(tokens_B, attend))
        return self._draw(logits_PV[: len(tokens_B)], temperature, u_B)

    def _unit(self, x_PD: Tensor, more_PD: Tensor | None, dtype: torch.dtype) -> Tensor:
        unit_PD = torch.empty(x_PD.shape, dtype=dtype)
        unit = self.c.unit if dtype == self.dtype else self.c.unit_floats
        unit(*x_PD.shape, x_PD.data_ptr(), at(more_PD), self.config.eps, unit_PD.data_ptr())
        return unit_PD

    def _gated(self, gate_up_PF: Tensor) -> Tensor:
        P, F = len(gate_up_PF), self.config.hidden
        hidden_PF = gate_up_PF.new_empty(P, F)
        self.c.swiglu(P, F, gate_up_PF.data_ptr(), hidden_PF.data_ptr())
        return hidden_PF

    def _attend(self, layer: int, block: attention.Block, qkv: Tensor, attended: Tensor) -> None:
        c, keys, values = self.config, block.pool.keys[layer], block.pool.values[layer]
        self.c.attend(
            block.past - block.first,
            c.kv_heads,
            keys.shape[-1],
            qkv.data_ptr(),
            at(self.gains[layer]),
            c.eps,
            self.cos_sin.data_ptr(),
            block.at_B.data_ptr(),
            keys.data_ptr(),
            values.data_ptr(),
            attended.data_ptr(),
        )

    def _draw(self, logits_NV: Tensor, temperature: float, u_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        N, V = logits_NV.shape
        token_N = torch.empty(N, dtype=torch.int64)
        scratch, logprob_N, entropy_N = torch.empty(N, V + PAIR), torch.empty(N), torch.empty(N)
        made = (x.data_ptr() for x in (scratch, token_N, logprob_N, entropy_N))
        self.c.draw(N, V, logits_NV.data_ptr(), temperature, u_N.data_ptr(), *made)
        return token_N, logprob_N, entropy_N


def _split(x_XK: Tensor) -> Tensor:
    """By pieces as the C code takes a head: even places, and then odd ones."""
    piece = 2 * math.gcd(x_XK.shape[1] // 2, PAIR // 2)
    return x_XK.unflatten(1, (-1, piece // 2, 2)).transpose(2, 3).contiguous()


@cache
def library(head_width: int, sharing: int, narrow: bool) -> ctypes.CDLL:
    """native.c for heads of a width, so many of which share a key head."""
    return compiled(SOURCE, FUNCTIONS, K=head_width, R=sharing, NARROW=int(narrow))


def check(device: str) -> None:
    """UserError where such steps cannot be made for a device here."""
    if device != "cpu":
        raise UserError(f"native steps are for a CPU, not for {device}: leave sampling.steps auto")
    library(32, 2, False)
