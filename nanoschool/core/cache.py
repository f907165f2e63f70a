"""cache: keys and values of many rows, in pools of like length.

A pool holds rows of at most so many tokens, and a row that outgrows it moves to the next, twice as long: a short row
does not pay for a long one beside it. Rows lie dense in a pool, so that a step reads one block of memory and copies
nothing. Keys are kept transposed, as the product with one query wants them.
Shapes: B rows, G key-value heads, K head width, T cached positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from nanoschool.core.config import ModelConfig

LEAST = 2  # slots of a pool: for a graphed step one is another shape than some


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

    keys: list[Tensor] | None = None  # of every layer, (G, K, T)
    values: list[Tensor] | None = None  # (G, T, K)

    def fill(self, other: "Kept") -> None:
        self.keys, self.values = other.keys, other.values


class Pool:
    """Rows of at most `length` tokens, and room for `spare` more. rows[i].slot == i; None where a row has left."""

    def __init__(
        self, config: ModelConfig, length: int, spare: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.config, self.length, self.spare, self.device, self.dtype = config, length, spare, device, dtype
        self.rows: list[Any] = []  # Cached | None
        self.free: list[int] = []
        self.slots = 0
        # (B, G, K, T) and (B, G, T, K), one tensor a layer: a compiler's graph may copy whole what it writes a part of
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def reserve(self, more: int) -> None:
        """Room for so many more rows, by doubling at least; what is there stays."""
        count = len(self.rows) - len(self.free) + more
        if max(count, len(self.rows)) <= self.slots:
            return
        c = self.config
        self.slots = max(count, len(self.rows), 2 * self.slots, LEAST)
        room = self.length + self.spare
        self.keys = self._grown(self.keys, (self.slots, c.kv_heads, c.head_width, room))
        self.values = self._grown(self.values, (self.slots, c.kv_heads, room, c.head_width))

    def _grown(self, old: list[Tensor], shape: tuple[int, ...]) -> list[Tensor]:
        new = []
        for _ in range(self.config.layers):
            # zeros: what no row has written is read too, at no weight, and may not be NaN
            here = torch.zeros(shape, device=self.device, dtype=self.dtype)
            if old:
                there = old.pop(0)  # layer by layer: gigabytes of a GPU are not there twice
                here[: len(there)] = there
            new.append(here)
        return new

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
        keys = [keys[slot, :, :, :positions].clone() for keys in self.keys]
        return Kept(keys, [values[slot, :, :positions].clone() for values in self.values])

    def fill(self, slots: Sequence[int], kept: Kept) -> None:
        """What was kept of a row, into each of these."""
        assert kept.keys is not None and kept.values is not None
        T = kept.keys[0].shape[-1]
        for here, there in zip(self.keys, kept.keys, strict=True):
            here[slots, :, :, :T] = there
        for here, there in zip(self.values, kept.values, strict=True):
            here[slots, :, :T] = there

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
        for mine, theirs in zip(self.keys, other.keys, strict=True):
            mine[here_B, :, :, :positions] = theirs[there_B, :, :, :positions]
        for mine, theirs in zip(self.values, other.values, strict=True):
            mine[here_B, :, :positions] = theirs[there_B, :, :positions]


def side_by_side(slots: list[int]) -> slice | list[int]:
    """A slice where there is one: what it takes is copied at once, and not gathered first."""
    first, past = slots[0], slots[0] + len(slots)
    return slice(first, past) if slots == list(range(first, past)) else slots


class Cache:
    """The pools of a session."""

    def __init__(
        self, config: ModelConfig, shortest: int, spare: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.config, self.shortest, self.spare, self.device, self.dtype = (
            config,
            shortest,
            spare,
            device,
            dtype,
        )
        self.pools: list[Pool] = []

    def pool_for(self, tokens: int) -> Pool:
        """The pool of the shortest rows that may hold so many."""
        for pool in self.pools:
            if tokens <= pool.length:
                return pool
        length = self.pools[-1].length * 2 if self.pools else self.shortest
        length = min(length, self.config.context)
        self.pools.append(Pool(self.config, length, self.spare, self.device, self.dtype))
        return self.pool_for(tokens)
