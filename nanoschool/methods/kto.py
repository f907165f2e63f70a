"""kto: Kahneman-Tversky optimisation (2402.01306): replies judged one by one, against what the policy gains anyway.

Comparisons count as one good reply and one bad one, as in the paper; a file may hold `completion` and `label` instead. The
baseline z is the mean log-ratio of replies put to other prompts of the batch, 0 at least, with no gradient; it is taken over
the whole step, before it, and the ledger bills it as `baseline`. What we changed from the paper: AdamW at a learning rate
for a small model.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from nanoschool import bits, preference
from nanoschool.core.batch import Batch, Totals
from nanoschool.core.examples import Comparison, Example, Judged
from nanoschool.core.policy import Policy
from nanoschool.methods.base import Learner, require, trapezoid
from nanoschool.methods.comparisons import replied
from nanoschool.methods.dataset import epochs
from nanoschool.methods.dpo import DPO
from nanoschool.methods.pairwise import replies
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class KTO(DPO):
    reads: ClassVar[tuple[type, ...]] = (Comparison, Judged)

    desirable: float = 1.0  # lambda_D; with n of each kind keep n_D lambda_D / (n_U lambda_U) from 1 to 4/3
    undesirable: float = 1.0  # lambda_U

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in ("desirable", "undesirable"):
            value = getattr(self, setting)
            require(value >= 0, self, f"{setting}={value} must be 0 or more")

    def collect(self, learner: Learner) -> list[Trajectory]:
        every = [judged for row in self.examples(learner) for judged in apart(row)]
        drawn = epochs(len(every), 2 * self.pairs, learner, "comparisons")
        return [replied_to(learner.policy, every[i]) for i in drawn]

    def fit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        policy = learner.policy
        batch = self.seen_by_reference(learner, Batch.of(trajectories))
        with policy.ledger.account("baseline"):
            z = self.baseline(learner, trajectories)
        seen: list[Tensor] = []

        def loss(logprobs_BT: Tensor, batch: Batch, totals: Totals) -> Tensor:
            said, good = replies(logprobs_BT, batch), batch.weights.sum(1) > 0
            seen.append(torch.stack([good.float(), self.reward(said).detach()]).cpu())
            losses = preference.kto(said.ratios, good, z, self.beta)
            return (torch.where(good, self.desirable, self.undesirable) * losses).sum() / totals.sequences

        scale = trapezoid(learner.progress, self.warmup, self.cooldown)
        metrics = policy.fit(batch, loss, scale=scale) | {"lr": self.lr * scale, "baseline": z}
        good, rewards = torch.cat(seen, dim=1)
        policy.ledger.charge(bits=sum(map(bits.of_label, rewards.tolist())))
        return metrics | {"desirable": mean(rewards[good > 0]), "undesirable": mean(rewards[good == 0])}

    def held_out(self, learner: Learner, split: str) -> dict[str, list[float]]:
        """The loss of each reply against a baseline of 0, and whether the policy came to say a good one more, a bad one
        less."""
        rows = [judged for row in self.kept(split) for judged in apart(row)]
        if not rows:
            return {}
        told: dict[str, list[float]] = {"loss": [], "accuracy": []}
        for part in Batch.of([replied_to(learner.policy, row) for row in rows]).micro(
            learner.policy.micro_tokens
        ):
            batch = self.seen_by_reference(learner, part)
            said, good = replies(learner.policy.logprobs(batch).cpu(), batch), batch.weights.sum(1) > 0
            losses = preference.kto(said.ratios, good, 0.0, self.beta)
            told["loss"] += (torch.where(good, self.desirable, self.undesirable) * losses).tolist()
            told["accuracy"] += ((self.reward(said) > 0) == good).float().tolist()
        return told

    def baseline(self, learner: Learner, trajectories: list[Trajectory]) -> float:
        """z = max(0, mean of log π/π_ref over replies to other prompts of the batch); 0 where there are no other prompts."""
        assert learner.reference is not None, "the learner keeps a reference where the method needs one"
        rows = [
            row
            for i, t in enumerate(trajectories)
            if (row := elsewhere(t, trajectories[i:] + trajectories[:i]))
        ]
        rows = [row for row in rows if len(row.tokens) <= learner.policy.model.config.context]
        if not rows:
            return 0.0
        batch = self.seen_by_reference(learner, Batch.of(rows))
        said = replies(learner.policy.logprobs(batch).cpu(), batch)
        return max(0.0, float(said.ratios.mean()))


def apart(row: Example) -> list[Judged]:
    """A comparison as a good reply and a bad one."""
    if isinstance(row, Judged):
        return [row]
    assert isinstance(row, Comparison)
    return [
        Judged(row.prompt, row.chosen, True, row.place),
        Judged(row.prompt, row.rejected, False, row.place),
    ]


def replied_to(policy: Policy, row: Judged) -> Trajectory:
    return replied(policy, row.prompt, row.completion, 1.0 if row.label else -1.0, row.place)


def elsewhere(row: Trajectory, others: list[Trajectory]) -> Trajectory | None:
    """The row's prompt with the reply of the next row that has another prompt."""
    start = row.mask.index(True)
    for other in others:
        begins = other.mask.index(True)
        if other.tokens[:begins] != row.tokens[:start]:
            tokens = row.tokens[:start] + other.tokens[begins:]
            blank = [0.0] * len(tokens)
            mask = row.mask[:start] + other.mask[begins:]
            return replace(row, tokens=tokens, mask=mask, logprobs=blank, weights=blank, extra={})
    return None


def mean(values: Tensor) -> float:
    """Of nothing it is 0."""
    return float(values.mean()) if len(values) else 0.0


METHOD = KTO
