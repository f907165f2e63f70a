"""native: a step of the engine whose work between products of matrices is C, each row in one go (native.c).

The same function as `Fused`'s, but for rounding; attention reads of each row's cache what is live. The machine's own C
compiler makes it in a third of a second, in every process, for the head that the model has. On macOS, whose compiler
comes without OpenMP, it runs on one thread; products of matrices use all that there are. `Fused` reads.
Shapes: N rows, P with those added for oneDNN, D width, H query heads, G key-value heads, K head width, F hidden, V vocabulary.
"""

import ctypes
import math
import os
import shlex
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from nanoschool.core import attention
from nanoschool.core.cache import Pool
from nanoschool.core.fused import Fused
from nanoschool.core.model import GPT
from nanoschool.types import UserError

SOURCE = Path(__file__).with_name("native.c")
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-shared", "-fPIC")
REMEDY = "install gcc, name another in CC, or set sampling.steps to eager"
PAIR = 32  # positions, or logits, that are read at once
LONG, FLOAT, AT = ctypes.c_long, ctypes.c_float, ctypes.c_void_p
FUNCTIONS = {
    "attend": (LONG, LONG, LONG, AT, AT, FLOAT, AT, AT, AT, AT, AT),
    "unit": (LONG, LONG, AT, AT, FLOAT, AT),
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
        logits_PV = self._multiply(len(tokens_B))(self._unit(*self._layers(tokens_B, attend)), self.head)
        return self._draw(logits_PV[: len(tokens_B)], temperature, u_B)

    def _unit(self, x_PD: Tensor, more_PD: Tensor | None = None) -> Tensor:
        unit_PD = torch.empty(x_PD.shape, dtype=self.dtype)
        self.c.unit(*x_PD.shape, x_PD.data_ptr(), _at(more_PD), self.config.eps, unit_PD.data_ptr())
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
            _at(self.gains[layer]),
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


def _at(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def check(device: str) -> None:
    """UserError where such steps cannot be made for a device here."""
    if device != "cpu":
        raise UserError(f"native steps are for a CPU, not for {device}: leave sampling.steps auto")
    library(32, 2, False)


@cache
def library(head_width: int, sharing: int, narrow: bool) -> ctypes.CDLL:
    """native.c for heads of a width, so many of which share a key head. UserError where it cannot be compiled."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    threads = [] if sys.platform == "darwin" else ["-fopenmp"]
    shape = [f"-DK={head_width}", f"-DR={sharing}", *(["-DNARROW"] if narrow else [])]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "native.so")
        command = [*compiler, *FLAGS, *threads, *shape, str(SOURCE), "-o", str(made), "-lm"]
        try:
            told = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            raise UserError(f"native steps need a C compiler ({error}): {REMEDY}") from None
        if told.returncode:
            why = next((line for line in told.stderr.splitlines() if "error" in line), f"status {told.returncode}")
            raise UserError(f"native steps cannot be compiled by {compiler[0]} ({why}): {REMEDY}")
        found = ctypes.CDLL(str(made))
    for name, types in FUNCTIONS.items():
        getattr(found, name).argtypes, getattr(found, name).restype = types, None
    return found
