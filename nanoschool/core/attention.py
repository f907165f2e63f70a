"""attention: of new tokens against the cache: `Step`, of one token in every row, and `reading`, of many in some.

Shapes: B rows, N new tokens of all rows end to end, H query heads, G key-value heads, K head width, T cached positions,
S new tokens of a row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nanoschool.core.cache import Cached, Pool

# attend(layer, q_NHK, k_NGK, v_NGK) -> (N, H, K); q is scaled already
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
PADDING = 256  # positions of padding that cost as much as one more pass of attention


class Step:
    """Attention of the newest token of every row against its own cache, pool by pool; `advance` goes on to the next.

    The rows are those of the pools, in their order; they hold `lengths_B` tokens."""

    shortest = 32  # positions of the shortest pool
    spare = 0  # positions of the cache beyond the longest row's

    def __init__(self, pools: Sequence[Pool], lengths_B: np.ndarray, device: torch.device) -> None:
        self.at_B, self.blocks, first = torch.tensor(lengths_B - 1, device=device), [], 0
        for pool in pools:
            if count := len(pool.rows):
                at_B = self.at_B[first : first + count]  # a view: it advances too
                T = int(lengths_B[first : first + count].max())
                every_B = torch.arange(count, device=at_B.device)
                bias = self._bias(pool, at_B)
                self.blocks.append(Block(pool, first, first + count, T, at_B, every_B, bias))
                first += count

    def advance(self) -> bool:
        """A token more in every row; False where one no longer fits into its pool."""
        self.at_B += 1
        for block in self.blocks:
            if block.pool.length == block.T:
                return False
            block.T += 1
            if block.bias_B11T is not None:
                block.bias_B11T[block.every_B, 0, 0, block.at_B] = 0
        return True

    def attend(self, layer: int, q_NHK: Tensor, k_NGK: Tensor, v_NGK: Tensor) -> Tensor:
        if len(self.blocks) == 1:
            return self.blocks[0].attend(layer, q_NHK, k_NGK, v_NGK)
        parts = [
            b.attend(layer, q_NHK[b.first : b.past], k_NGK[b.first : b.past], v_NGK[b.first : b.past])
            for b in self.blocks
        ]
        return torch.cat(parts)

    def _bias(self, pool: Pool, at_B: Tensor) -> Tensor | None:
        """What hides later positions, (B, 1, 1, T); None where all rows are of one length."""
        if at_B.min() == at_B.max():
            return None
        later_BT = torch.arange(pool.length, device=at_B.device) > at_B[:, None]
        bias_BT = torch.zeros(later_BT.shape, device=at_B.device)
        return bias_BT.masked_fill_(later_BT, float("-inf"))[:, None, None]


@dataclass
class Block:
    """The rows of one pool in a step."""

    pool: Pool
    first: int
    past: int
    T: int  # positions of the longest
    at_B: Tensor  # of the new tokens
    every_B: Tensor
    bias_B11T: Tensor | None  # None where all are of one length

    def attend(self, layer: int, q_BHK: Tensor, k_BGK: Tensor, v_BGK: Tensor) -> Tensor:
        T, (B, H, K), dtype = self.T, q_BHK.shape, self.pool.dtype
        keys, values = self.pool.keys[layer], self.pool.values[layer]
        keys[self.every_B, :, :, self.at_B] = k_BGK.to(dtype)
        values[self.every_B, :, self.at_B] = v_BGK.to(dtype)
        G = keys.shape[1]
        # query heads that share a key head stand side by side
        q = q_BHK.reshape(B * G, H // G, K)
        scores = torch.bmm(q, keys[:B].flatten(0, 1)[:, :, :T].float())
        if self.bias_B11T is not None:
            scores.view(B, G, H // G, T).add_(self.bias_B11T[..., :T])
        return torch.bmm(scores.softmax(-1), values[:B].flatten(0, 1)[:, :T].float()).view(B, H, K)


class Span:
    """Rows of one pool that are read together, padded to the longest for attention alone."""

    def __init__(self, rows: Sequence[Cached], at: int, device: torch.device) -> None:
        pool, counts = rows[0].pool, [row.unread for row in rows]
        assert pool is not None
        self.pool, self.at, self.past = pool, at, at + sum(counts)
        self.B, self.S, self.fresh = len(rows), max(counts), not rows[0].cached
        self.T = max(row.cached + n for row, n in zip(rows, counts, strict=True))
        starts_B = torch.tensor([row.cached for row in rows], device=device)
        self.slots_B = torch.tensor([row.slot for row in rows], device=device)
        steps_S = torch.arange(self.S, device=device)
        live_BS = steps_S < torch.tensor(counts, device=device)[:, None]
        self.row_N, self.step_N = torch.nonzero(live_BS, as_tuple=True)
        self.slot_N, self.at_N = self.slots_B[self.row_N], starts_B[self.row_N] + self.step_N
        self.mask_B1ST = None
        if not self.fresh:
            seen_BST = torch.arange(self.T, device=device) <= (starts_B[:, None] + steps_S)[:, :, None]
            self.mask_B1ST = seen_BST[:, None]

    def attend(self, layer: int, q_NHK: Tensor, k_NGK: Tensor, v_NGK: Tensor) -> Tensor:
        n, dtype = self.past - self.at, self.pool.dtype
        q_NHK, k_NGK, v_NGK = q_NHK[:n], k_NGK[:n], v_NGK[:n]
        keys, values = self.pool.keys[layer], self.pool.values[layer]
        keys[self.slot_N, :, :, self.at_N] = k_NGK.to(dtype)
        values[self.slot_N, :, self.at_N] = v_NGK.to(dtype)
        if self.fresh:  # padding comes after what is read, so nothing sees it
            k_BGTK, v_BGTK = self._padded(k_NGK), self._padded(v_NGK)
        else:
            k_BGTK = keys[self.slots_B, :, :, : self.T].transpose(2, 3).float()
            v_BGTK = values[self.slots_B, :, : self.T].float()
        out_BHSK = F.scaled_dot_product_attention(
            self._padded(q_NHK),
            k_BGTK,
            v_BGTK,
            attn_mask=self.mask_B1ST,
            is_causal=self.fresh,
            scale=1.0,
            enable_gqa=True,
        )
        return out_BHSK.transpose(1, 2)[self.row_N, self.step_N]

    def _padded(self, x_NHK: Tensor) -> Tensor:
        padded_BSHK = x_NHK.new_zeros(self.B, self.S, *x_NHK.shape[1:])
        padded_BSHK[self.row_N, self.step_N] = x_NHK
        return padded_BSHK.transpose(1, 2)


def reading(rows: Sequence[Cached], device: torch.device) -> Attend:
    """Attention of what is unread in each of `rows`, which stand in the order of `reading_order`."""
    spans, first, at = [], 0, 0
    while first < len(rows):
        past, padding, longest = first, 0, rows[first].unread
        while past < len(rows) and _alike(rows[past], rows[first]) and padding < PADDING:
            padding += longest - rows[past].unread
            past += 1
        spans.append(Span(rows[first:past], at, device))
        first, at = past, spans[-1].past

    def attend(layer: int, q_NHK: Tensor, k_NGK: Tensor, v_NGK: Tensor) -> Tensor:
        parts = [s.attend(layer, q_NHK[s.at :], k_NGK[s.at :], v_NGK[s.at :]) for s in spans]
        return torch.cat(parts)

    return attend


def reading_order(row: Cached) -> tuple[int, bool, int]:
    """Sorts rows so that those that can be read in one pass of attention stand together."""
    assert row.pool is not None
    return row.pool.length, row.cached > 0, -row.unread


def _alike(one: Cached, other: Cached) -> bool:
    return one.pool is other.pool and (one.cached > 0) == (other.cached > 0)
