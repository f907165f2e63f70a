"""Batch: trajectories or packed documents as padded tensors, and the totals a loss divides by.

Entry t of every per-token array speaks of token t: mask says it is learned, logprobs is log p(token t | tokens < t).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from nanoschool.types import Trajectory


@dataclass(frozen=True)
class Totals:
    """Counts over the whole optimizer step, all micro-batches and ranks, so that splitting a batch changes nothing."""

    tokens: int  # learned tokens
    sequences: int  # rows with at least one learned token


@dataclass(frozen=True)
class Batch:
    tokens: Tensor  # (B, T) int64, padded on the right
    mask: Tensor  # (B, T) bool, True on learned tokens; never the first of a row
    weights: Tensor  # (B, T) float32, what each token is worth
    logprobs: Tensor  # (B, T) float32, under the policy that sampled, 0 where nobody did
    lengths: Tensor  # (B,) int64
    temperatures: Tensor  # (B,) float32, that log-probabilities are taken at
    extra: dict[str, Tensor] = field(default_factory=dict)  # named (B, T) float32 arrays
    pairs: Tensor | None = (
        None  # (B,) int64, the comparison that a row is a side of; None where nothing is compared
    )

    def __post_init__(self) -> None:
        if self.mask[:, 0].any():
            raise ValueError("a row's first token cannot be learned: nothing stands before it")

    @classmethod
    def of(cls, trajectories: Sequence[Trajectory]) -> "Batch":
        """Raises ValueError where a trajectory's lists differ in length, there is none, or only some have a pair."""
        if not trajectories:
            raise ValueError("a batch needs at least one trajectory")
        for i, t in enumerate(trajectories):
            lists = {"mask": t.mask, "logprobs": t.logprobs, "weights": t.weights, **t.extra}
            if wrong := {name: len(x) for name, x in lists.items() if len(x) != len(t.tokens)}:
                raise ValueError(f"trajectory {i} has {len(t.tokens)} tokens, but entries in {wrong}")
        T = max(len(t.tokens) for t in trajectories)
        pairs = [t.pair for t in trajectories if t.pair is not None]
        if pairs and len(pairs) < len(trajectories):
            raise ValueError(
                f"{len(pairs)} of {len(trajectories)} trajectories have a pair; all or none must"
            )

        def stack(rows: Sequence[Sequence[float]], dtype: torch.dtype) -> Tensor:
            return torch.tensor([list(row) + [0] * (T - len(row)) for row in rows], dtype=dtype)

        names = set.intersection(*(set(t.extra) for t in trajectories))
        return cls(
            stack([t.tokens for t in trajectories], torch.int64),
            stack([t.mask for t in trajectories], torch.bool),
            stack([t.weights for t in trajectories], torch.float32),
            stack([t.logprobs for t in trajectories], torch.float32),
            torch.tensor([len(t.tokens) for t in trajectories]),
            torch.tensor([t.temperature for t in trajectories]),
            {name: stack([t.extra[name] for t in trajectories], torch.float32) for name in sorted(names)},
            torch.tensor(pairs) if pairs else None,
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def totals(self) -> Totals:
        return Totals(int(self.mask.sum()), int(self.mask.any(dim=1).sum()))

    def rows(self, index: Tensor) -> "Batch":
        """Some rows, cut to the longest of them."""
        T = int(self.lengths[index].max())

        def take(x: Tensor) -> Tensor:
            return x[index][:, :T]

        extra = {name: take(x) for name, x in self.extra.items()}
        return Batch(
            take(self.tokens),
            take(self.mask),
            take(self.weights),
            take(self.logprobs),
            self.lengths[index],
            self.temperatures[index],
            extra,
            None if self.pairs is None else self.pairs[index],
        )

    def micro(self, max_tokens: int) -> list["Batch"]:
        """Split into micro-batches of at most `max_tokens` tokens (at least a row each), like lengths together.

        Padding does not count: it is not computed. The sides of a comparison are never parted.
        """
        lengths, units = self.lengths.tolist(), self._units()
        units.sort(key=lambda rows: -max(lengths[row] for row in rows))  # stable
        parts: list[list[int]] = []
        held = 0
        for rows in units:
            tokens = sum(lengths[row] for row in rows)
            if parts and held + tokens <= max_tokens:
                parts[-1] += rows
                held += tokens
            else:
                parts.append(list(rows))
                held = tokens
        return [self.rows(torch.tensor(part)) for part in parts]

    def _units(self) -> list[list[int]]:
        """Rows that stay together: a comparison's, else each alone."""
        if self.pairs is None:
            return [[row] for row in range(len(self))]
        together: dict[int, list[int]] = {}
        for row, pair in enumerate(self.pairs.tolist()):
            together.setdefault(pair, []).append(row)
        return list(together.values())

    def to(self, device: str) -> "Batch":
        moved = {f.name: getattr(self, f.name) for f in fields(Batch) if f.name != "extra"}
        moved = {name: x if x is None else x.to(device) for name, x in moved.items()}
        return Batch(**moved, extra={name: x.to(device) for name, x in self.extra.items()})


def weighted_nll(logprobs_BT: Tensor, batch: Batch, totals: Totals) -> Tensor:
    """The default loss, −Σ w·log p / N: imitation (w = 1), reinforcement (w = advantage), distillation (w = log-ratio)."""
    return -(batch.weights * logprobs_BT)[batch.mask].sum() / max(totals.tokens, 1)
