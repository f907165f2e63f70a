"""scheduler: which rows stand where in the cache, and what is read before a step. Idle while rows just go on.

Shapes: B rows that run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nanoschool.core.attention import Step, reading, reading_order
from nanoschool.core.cache import Cache, Kept, Pool
from nanoschool.core.draw import uniform
from nanoschool.core.endings import Endings
from nanoschool.core.fused import Fused
from nanoschool.core.row import Row

AHEAD = 64  # steps at most, and numbers at least, that are drawn by and made at once
READ_AT_ONCE = 4096  # tokens in one pass of reading, a row at least


@dataclass
class Live:
    """The rows that run, in the order of the pools, and what a step needs to know of them."""

    rows: list[Row]
    step: Step
    seats_B: np.ndarray
    keys_B: np.ndarray
    at_B: np.ndarray  # position of the last token, which is read next
    ends_B: np.ndarray  # the length at which a row is cut off
    stops_B: np.ndarray  # line of `Endings.may_EV`
    tokens_B: Tensor  # the last of each
    to_draw_by: tuple[Tensor, ...] = ()  # (B,) each, by step
    drawn_at: int = 0  # where the first row stood at the first of these steps

    def uniform(self, seed: int) -> Tensor:
        """Each row's next number in [0, 1), (B,) in float64. They are made and moved to the device for many steps at
        once, for twice as many each time, as the rows may not stay together for long."""
        at = int(self.at_B[0])
        if at >= self.drawn_at + len(self.to_draw_by):
            steps = max(1, AHEAD // len(self.rows), 2 * len(self.to_draw_by))
            steps_X1 = np.arange(min(steps, AHEAD))[:, None]
            u_XB = torch.from_numpy(uniform(seed, self.keys_B, self.at_B + steps_X1))
            self.to_draw_by, self.drawn_at = u_XB.to(self.tokens_B.device).unbind(0), at
        return self.to_draw_by[at - self.drawn_at]


class Scheduler:
    """`charge(tokens, attended pairs, sampled)` bills what is read."""

    def __init__(
        self, fused: Fused, step: type[Step], device: torch.device, charge: Callable[[int, int, int], None]
    ) -> None:
        self.fused, self.step, self.device, self.charge = fused, step, device, charge
        self.cache = Cache(fused.config, step.shortest, step.spare, device, fused.dtype)

    def line_up(self, rows: Sequence[Row], endings: Endings) -> Live:
        """Read what is unread, and give every running row its place."""
        for row in rows:
            if row.pool and not row.running:
                row.kept = row.pool.keep(row.slot, row.cached)
                row.pool.leave(row)
        self.read_held(rows)
        running = [row for row in rows if row.running]
        self._place(running)
        self._read([row for row in running if row.unread])
        for pool in self.cache.pools:
            pool.close_ranks()
        rows = [row for pool in self.cache.pools for row in pool.rows]
        lengths_B = np.array([row.length for row in rows], dtype=np.int64)
        return Live(
            rows,
            self.step(self.cache.pools, lengths_B, self.device),
            np.array([row.seat for row in rows], dtype=np.int64),
            np.array([row.key for row in rows], dtype=np.uint64),
            lengths_B - 1,
            np.array([row.end for row in rows], dtype=np.int64),
            np.array([endings.number(row.stop) for row in rows], dtype=np.int64),
            torch.tensor([row.last for row in rows], dtype=torch.int64, device=self.device),
        )

    def read_held(self, rows: Sequence[Row]) -> None:
        """What rows hold that are only forked, for their forks."""
        held = [row for row in rows if row.kept and row.held and row.kept.keys is None]
        self._place(held)
        self._read(held)
        for row in held:
            assert row.pool and row.kept
            row.kept.fill(row.pool.keep(row.slot, row.cached))
            row.pool.leave(row)

    def _place(self, rows: Sequence[Row]) -> None:
        """Into a pool that is long enough, each with its cache."""
        arrivals: dict[tuple[Pool | None, Pool], list[Row]] = {}
        for row in rows:
            if row.pool is None or row.length > row.pool.length:
                arrivals.setdefault((row.pool, self.cache.pool_for(row.length)), []).append(row)
        fills: dict[tuple[Pool, Kept], list[Row]] = {}
        for (old, new), movers in arrivals.items():
            if old:
                new.take(old, movers, max(row.cached for row in movers))
                continue
            new.reserve(len(movers))
            for row in movers:
                new.put(row)
                if row.kept and not row.held:
                    fills.setdefault((new, row.kept), []).append(row)
                    row.kept = None
        for (pool, kept), filled in fills.items():
            pool.fill([row.slot for row in filled], kept)

    def _read(self, rows: Sequence[Row]) -> None:
        """Read all but the last token of rows that stand in a pool."""
        rows = sorted((row for row in rows if row.unread), key=reading_order)
        while rows:
            counts, total = [], 0
            while len(counts) < len(rows) and (not total or total + rows[len(counts)].unread <= READ_AT_ONCE):
                counts.append(rows[len(counts)].unread)
                total += counts[-1]
            now, rows = rows[: len(counts)], rows[len(counts) :]
            starts = [row.cached for row in now]
            spans = list(zip(starts, counts, strict=True))
            tokens = [t for row, (s, n) in zip(now, spans, strict=True) for t in row.tokens[s : s + n]]
            at = np.concatenate([np.arange(s, s + n) for s, n in spans])
            self.fused.read(
                torch.tensor(tokens, device=self.device),
                torch.tensor(at, device=self.device),
                reading(now, self.device),
            )
            self.charge(total, sum(n * s + n * (n + 1) // 2 for s, n in spans), 0)
            for row in now:
                row.unread = 0
