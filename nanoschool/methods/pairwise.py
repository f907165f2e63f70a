"""Pairwise: what every preference loss of a policy shares; each paper says what a comparison is worth to it.

The reference's log-probabilities are taken once a step, for the whole batch, and billed as `reference`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from nanoschool import bits
from nanoschool.core.batch import Batch, Totals
from nanoschool.core.examples import Comparison, Example
from nanoschool.core.optim import adamw
from nanoschool.core.policy import Policy
from nanoschool.methods.base import Learner, trapezoid
from nanoschool.methods.comparisons import Comparisons, Scheduled, both
from nanoschool.types import Trajectory


class Replies(NamedTuple):
    """Some replies, as the policy and the reference see them; every field (B,)."""

    logprobs: Tensor  # log pi(y|x), summed over the reply's tokens
    reference: Tensor  # the same under the reference; 0 where a method has none
    tokens: Tensor  # of the reply

    @property
    def ratios(self) -> Tensor:
        """log pi(y|x) − log pi_ref(y|x)."""
        return self.logprobs - self.reference

    @property
    def means(self) -> Tensor:
        """log pi(y|x) a token."""
        return self.logprobs / self.tokens

    def rows(self, index: Tensor) -> "Replies":
        return Replies(*(value[index] for value in self))


@dataclass(frozen=True)
class Preference(Scheduled):
    """A loss of comparisons, wherever they are from."""

    needs_reference: ClassVar[bool] = True

    def objective(self, chosen: Replies, rejected: Replies) -> Tensor:
        """The loss of each comparison, (P,); the paper's part."""
        raise TypeError(f"{type(self).__name__} defines no objective()")

    def reward(self, replies: Replies) -> Tensor:
        """What the method implies each reply to be worth, (B,)."""
        raise TypeError(f"{type(self).__name__} defines no reward()")

    def offered_by(self, margins: Sequence[float]) -> float:
        """Bits of the labels of comparisons with these margins: 1 each at most, less where its margin foretells it."""
        return sum(map(bits.of_label, margins))

    def begin(self, learner: Learner) -> None:
        learner.policy.optimizer = adamw(learner.policy.model, self.lr, betas=(0.9, self.beta2))

    def fit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        batch = self.seen_by_reference(learner, Batch.of(trajectories))
        seen: list[Tensor] = []

        def loss(logprobs_BT: Tensor, batch: Batch, totals: Totals) -> Tensor:
            won, lost = sides(batch)
            said = replies(logprobs_BT, batch)
            chosen, rejected = said.rows(won), said.rows(lost)
            seen.append(self.watched(chosen, rejected).detach())
            return self.objective(chosen, rejected).sum() / (totals.sequences / 2)

        scale = trapezoid(learner.progress, self.warmup, self.cooldown)
        metrics = learner.policy.fit(batch, loss, scale=scale) | {"lr": self.lr * scale}
        watched_4P = torch.cat(seen, dim=1)
        learner.policy.ledger.charge(bits=self.offered_by(watched_4P[1].tolist()))
        watched = watched_4P.mean(1).tolist()
        return metrics | dict(zip(("accuracy", "margin", "chosen", "rejected"), watched, strict=True))

    def watched(self, chosen: Replies, rejected: Replies) -> Tensor:
        """(4, P): is the chosen one worth more, by how much, and log pi of both: both falling is common, so look."""
        margin = self.reward(chosen) - self.reward(rejected)
        return torch.stack([(margin > 0).float(), margin, chosen.logprobs, rejected.logprobs])

    def margins(self, policy: Policy, reference: Policy | None, pairs: Sequence[Comparison]) -> list[float]:
        """By how much each chosen reply is worth more than the rejected one: what to measure on pairs held out."""
        batch = Batch.of([side for pair, row in enumerate(pairs) for side in both(policy, row, pair)])
        if reference is not None:
            batch.extra["reference"] = reference.logprobs(batch).cpu()
        said = replies(policy.logprobs(batch).cpu(), batch)
        won, lost = sides(batch)
        return (self.reward(said.rows(won)) - self.reward(said.rows(lost))).tolist()

    def seen_by_reference(self, learner: Learner, batch: Batch) -> Batch:
        """The same batch with the reference's log-probabilities, billed to it, where the method has one."""
        if self.needs_reference:
            batch.extra["reference"] = learner.reference_logprobs(batch)
        return batch


@dataclass(frozen=True)
class Pairwise(Comparisons, Preference):
    """A policy's loss on a finite set of comparisons."""

    def held_out(self, learner: Learner, split: str) -> dict[str, list[float]]:
        """The loss of each comparison, and whether the policy implies the chosen reply to be worth more."""
        told: dict[str, list[float]] = {}
        for batch in self.batches(learner, self.kept(split)):
            said, (won, lost) = replies(learner.policy.logprobs(batch).cpu(), batch), sides(batch)
            chosen, rejected = said.rows(won), said.rows(lost)
            found = {
                "loss": self.objective(chosen, rejected),
                "accuracy": (torch.sign(self.reward(chosen) - self.reward(rejected)) + 1)
                / 2,  # half for a tie
            }
            told = {name: told.get(name, []) + values.tolist() for name, values in found.items()}
        return told

    def batches(self, learner: Learner, rows: Sequence[Example]) -> list[Batch]:
        """Comparisons in batches that a pass takes, with the reference's log-probabilities where there is one."""
        pairs = [row for row in rows if isinstance(row, Comparison)]
        if not pairs:
            return []
        batch = Batch.of([side for i, row in enumerate(pairs) for side in both(learner.policy, row, i)])
        parts = batch.micro(learner.policy.micro_tokens)
        return [self.seen_by_reference(learner, part) for part in parts]


def replies(logprobs_BT: Tensor, batch: Batch) -> Replies:
    """The rows of a batch as replies; the reference's log-probabilities are in its `extra`, where there are any."""
    reference_BT = batch.extra.get("reference", torch.zeros_like(logprobs_BT))
    tokens_B = batch.mask.sum(1).to(logprobs_BT.dtype)
    return Replies((logprobs_BT * batch.mask).sum(1), (reference_BT * batch.mask).sum(1), tokens_B)


def sides(batch: Batch) -> tuple[Tensor, Tensor]:
    """The rows that were chosen and those that were rejected, (P,) each, in one order."""
    assert batch.pairs is not None, "rows without a pair have no sides"
    order = torch.argsort(batch.pairs, stable=True)
    is_chosen = batch.weights.sum(1)[order] > 0
    won, lost = order[is_chosen], order[~is_chosen]
    assert torch.equal(batch.pairs[won], batch.pairs[lost]), "a pair has a chosen side and a rejected one"
    return won, lost
