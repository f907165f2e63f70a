"""cache: keys and values of many rows, in pools of like length.

A pool holds rows of at most so many tokens, and a row that outgrows it moves to the next, twice as long: a short row
does not pay for a long one beside it. Rows lie dense in a pool, so that a step reads one block of memory and copies
nothing. Keys are kept transposed, as the product with one query wants them.
Shapes: L layers, B rows, G key-value heads, K head width, T cached positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from nanoschool.core.config import ModelConfig

SHORTEST = 32  # positions of the shortest pool


class Cached(Protocol):
    """What a pool needs to know of a row."""

    pool: "Pool | None"
    slot: int
    unread: int  # tokens that are to be read before the next is sampled

    @property
    def cached(self) -> int: ...  # positions that are in the cache


@dataclass(eq=False)
class Kept:
    """A row's cache outside of any pool; rows that begin alike share it. Empty until it is filled."""

    keys_LGKT: Tensor | None = None
    values_LGTK: Tensor | None = None

    def fill(self, other: "Kept") -> None:
        self.keys_LGKT, self.values_LGTK = other.keys_LGKT, other.values_LGTK


class Pool:
    """Rows of at most `length` tokens. rows[i].slot == i; None where a row has left."""

    def __init__(self, config: ModelConfig, length: int, device: torch.device) -> None:
        self.config, self.length, self.device = config, length, device
        self.rows: list[Any] = []  # Cached | None
        self.free: list[int] = []
        self.slots = 0
        self.keys_LBGKT = self.values_LBGTK = torch.empty(0)

    def reserve(self, more: int) -> None:
        """Room for so many more rows, by doubling at least; what is there stays."""
        count = len(self.rows) - len(self.free) + more
        if max(count, len(self.rows)) <= self.slots:
            return
        c, old = self.config, self.slots
        self.slots = max(count, len(self.rows), 2 * old)
        # zeros: what no row has written is read too, at no weight, and may not be NaN
        keys = torch.zeros(c.layers, self.slots, c.kv_heads, c.head_width, self.length, device=self.device)
        values = torch.zeros(c.layers, self.slots, c.kv_heads, self.length, c.head_width, device=self.device)
        if old:
            keys[:, :old], values[:, :old] = self.keys_LBGKT, self.values_LBGTK
        self.keys_LBGKT, self.values_LBGTK = keys, values

    def put(self, row: Cached) -> None:
        """Give a row a slot."""
        if not self.free:
            self.free.append(len(self.rows))
            self.rows.append(None)
            self.reserve(0)
        row.pool, row.slot = self, self.free.pop()
        self.rows[row.slot] = row

    def leave(self, row: Cached) -> None:
        self.rows[row.slot] = None
        self.free.append(row.slot)
        row.pool, row.slot = None, -1

    def keep(self, slot: int, positions: int) -> Kept:
        """A copy of what is cached of a row."""
        keys, values = self.keys_LBGKT[:, slot, :, :, :positions], self.values_LBGTK[:, slot, :, :positions]
        return Kept(keys.clone(), values.clone())

    def fill(self, slots: Sequence[int], kept: Kept) -> None:
        """What was kept of a row, into each of these."""
        assert kept.keys_LGKT is not None and kept.values_LGTK is not None
        T = kept.keys_LGKT.shape[-1]
        self.keys_LBGKT[:, slots, :, :, :T] = kept.keys_LGKT[:, None]
        self.values_LBGTK[:, slots, :, :T] = kept.values_LGTK[:, None]

    def take(self, other: "Pool", rows: Sequence[Cached], positions: int) -> None:
        """Rows of another pool, with so many positions of their caches."""
        there = [row.slot for row in rows]
        self.reserve(len(rows))
        for row in rows:
            other.leave(row)
            self.put(row)
        self._copy(other, there, [row.slot for row in rows], positions)

    def close_ranks(self) -> None:
        """Rows from the end move into the places of those that left."""
        count = len(self.rows) - len(self.free)
        holes = sorted(slot for slot in self.free if slot < count)
        last = [slot for slot in range(count, len(self.rows)) if self.rows[slot]]
        if holes:
            self._copy(self, last, holes, max(self.rows[slot].cached for slot in last))
        for hole, slot in zip(holes, last, strict=True):
            self.rows[hole] = self.rows[slot]
            self.rows[hole].slot = hole
        del self.rows[count:]
        self.free.clear()

    def _copy(self, other: "Pool", there: list[int], here: list[int], positions: int) -> None:
        there_B, here_B = side_by_side(there), side_by_side(here)
        self.keys_LBGKT[:, here_B, :, :, :positions] = other.keys_LBGKT[:, there_B, :, :, :positions]
        self.values_LBGTK[:, here_B, :, :positions] = other.values_LBGTK[:, there_B, :, :positions]


def side_by_side(slots: list[int]) -> slice | list[int]:
    """A slice where there is one: what it takes is copied at once, and not gathered first."""
    first, past = slots[0], slots[0] + len(slots)
    return slice(first, past) if slots == list(range(first, past)) else slots


class Cache:
    """The pools of a session."""

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.pools: list[Pool] = []

    def pool_for(self, tokens: int) -> Pool:
        """The pool of the shortest rows that may hold so many."""
        for pool in self.pools:
            if tokens <= pool.length:
                return pool
        length = self.pools[-1].length * 2 if self.pools else SHORTEST
        self.pools.append(Pool(self.config, min(length, self.config.context), self.device))
        return self.pool_for(tokens)
