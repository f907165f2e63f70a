"""flex: rows end to end attended to in one call, by FlexAttention (2412.05496) with a mask of blocks.

A block of queries and keys is skipped, masked token by token, or taken whole. As rows stand in order, its corners tell
which, so the mask is made without ever comparing all tokens with all.
Shapes: S tokens of all rows, N blocks of them, H query heads, G key-value heads, K head width.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import flex_attention as torchs
from torch.nn.attention.flex_attention import BlockMask

from nanoschool.core.model import Attend

BLOCK = 128


def flex(lengths: Sequence[int], device: torch.device, compiled: bool = True) -> Attend:
    """Attention of rows of these lengths: a token sees its own row, up to itself. Not compiled it is for tests."""
    mask, call = blocks(lengths, device), _kernel() if compiled else torchs.flex_attention

    def attend(layer: int, q_1HSK: Tensor, k_1GSK: Tensor, v_1GSK: Tensor) -> Tensor:
        return call(q_1HSK, k_1GSK, v_1GSK, block_mask=mask, enable_gqa=True)

    return attend


def blocks(lengths: Sequence[int], device: torch.device) -> BlockMask:
    """Which keys a query sees: those of its own row, up to itself."""
    row_S = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    S = len(row_S)
    row_NX = F.pad(row_S, (0, -S % BLOCK), value=-1).view(-1, BLOCK)  # what fills the last block is of no row
    first_N, last_N = row_NX[:, 0], row_NX[:, -1]
    before_NN = torch.ones(len(first_N), len(first_N), dtype=torch.bool).tril(-1)
    whole_NN = before_NN & (first_N == last_N[:, None])  # the first key's row is the last query's
    seen_NN = before_NN & (last_N == first_N[:, None])
    partly_NN = (seen_NN & ~whole_NN) | torch.eye(len(first_N), dtype=torch.bool)
    found = [x.to(device) for part in (partly_NN, whole_NN) for x in _listed(part[None, None])]
    row_S = row_S.to(device)

    def sees(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q >= k) & (row_S[q] == row_S[k])

    return BlockMask.from_kv_blocks(*found, BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(S, S))


def _listed(there_NN: Tensor) -> tuple[Tensor, Tensor]:
    """How many of each line are there, and which: those first, in order."""
    which_NN = there_NN.int().argsort(dim=-1, descending=True, stable=True)
    return there_NN.sum(-1, dtype=torch.int32), which_NN.int()


@cache
def _kernel() -> Callable[..., Any]:
    return torch.compile(torchs.flex_attention, dynamic=True, fullgraph=True)
