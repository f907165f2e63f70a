"""reward_model: what a judge prefers, by Bradley and Terry on comparisons (2203.02155, Eq. 1), one model or an ensemble.

The policy is left as it is. Each member (2310.02743) has a head of its own and reads the comparisons in an order of its own.
At the end of its stage every member scores the replies that it learned from with mean 0 and deviation 1 (2009.01325).
What we changed from the paper: two replies a prompt, not nine; (r_w + r_l)² holds the level of the scores at 0 (2312.09244),
which comparisons leave open. Held-out scores and files: core/reward_model.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from nanoschool import bits, preference
from nanoschool.core.batch import Batch
from nanoschool.core.examples import Comparison
from nanoschool.core.optim import Optimizer
from nanoschool.core.policy import Policy
from nanoschool.core.reward_model import NAME, RewardModel, plain
from nanoschool.methods.base import Learner, require, trapezoid
from nanoschool.methods.comparisons import Comparisons, both
from nanoschool.methods.dataset import epochs
from nanoschool.methods.pairwise import sides
from nanoschool.types import Trajectory

STANDARD = 256  # comparisons whose sides say what a score of 0 is, and one of 1


@dataclass(frozen=True)
class RewardModelling(Comparisons):
    trains_policy: ClassVar[bool] = False

    members: int = 1
    centre: float = 0.01  # on the squared sum of a pair's scores

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.members >= 1, self, f"members={self.members} must be at least 1")
        require(self.centre >= 0, self, f"centre={self.centre} must be 0 or more")

    def begin(self, learner: Learner) -> None:
        policy = learner.policy
        policy.optimizer = Optimizer([], clip=1.0)  # the policy itself learns nothing
        policy.optimizer.beside[NAME] = RewardModel(
            policy.model,
            policy.tokenizer,
            policy.ledger,
            members=self.members,
            lr=self.lr,
            beta2=self.beta2,
            seed=learner.seed,
            micro_tokens=policy.micro_tokens,
        )

    def collect(self, learner: Learner) -> list[Trajectory]:
        every, rows = self.examples(learner), []
        for member in range(self.members):
            for pair, i in enumerate(epochs(len(every), self.pairs, learner, f"comparisons of {member}")):
                row = every[i]
                assert isinstance(row, Comparison)
                rows += [replace(side, group=member) for side in both(learner.policy, row, pair)]
        return rows

    def fit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        model, scale = reward_model_of(learner), trapezoid(learner.progress, self.warmup, self.cooldown)
        told: list[dict[str, float]] = []
        for member in range(self.members):
            batch = Batch.of([t for t in trajectories if t.group == member])
            seen: list[Tensor] = []

            def loss(scores_B: Tensor, batch: Batch, rows: int, seen: list[Tensor] = seen) -> Tensor:
                won, lost = sides(batch)
                chosen, rejected = scores_B[won], scores_B[lost]
                seen.append(
                    torch.stack([(chosen > rejected).float(), chosen - rejected, chosen + rejected]).detach()
                )
                return self.objective(chosen, rejected).sum() / (rows / 2)

            fitted = model.fit(member, batch, loss, scale)
            seen_3P = torch.cat(seen, dim=1)
            learner.policy.ledger.charge(bits=sum(map(bits.of_label, seen_3P[1].tolist())))
            accuracy, margin, level = seen_3P.mean(1).tolist()
            told.append(fitted | {"accuracy": accuracy, "margin": margin, "level": level / 2})
        means = {key: sum(t[key] for t in told) / len(told) for key in told[0]}
        return means | {"lr": self.lr * scale}

    def conclude(self, learner: Learner) -> None:
        some = [row for row in self.examples(learner)[:STANDARD] if isinstance(row, Comparison)]
        with learner.policy.ledger.account("standardise"):
            reward_model_of(learner).standardise(sides_of(learner.policy, some))

    def held_out(self, learner: Learner, split: str) -> dict[str, list[float]]:
        """The loss of each comparison under the members' mean, before it is standardised, and whether the chosen reply
        scores higher."""
        pairs = [row for row in self.kept(split) if isinstance(row, Comparison)]
        if not pairs:
            return {}
        model = reward_model_of(learner)
        scores_MB = model.scores(Batch.of([plain(side) for side in sides_of(learner.policy, pairs)]))
        std_M1 = torch.stack([member.std for member in model.members]).cpu()[:, None]
        found_P = ((scores_MB[:, ::2] - scores_MB[:, 1::2]) * std_M1).mean(0)
        losses = preference.bradley_terry(found_P, torch.zeros_like(found_P))
        return {"loss": losses.tolist(), "accuracy": ((found_P.sign() + 1) / 2).tolist()}

    def objective(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        """−log σ(r_w − r_l) + c (r_w + r_l)², of scores, (P,)."""
        level = self.centre * preference.off_centre(chosen, rejected)
        return preference.bradley_terry(chosen, rejected) + level


def reward_model_of(learner: Learner) -> RewardModel:
    """The one that a stage trains."""
    assert learner.policy.optimizer is not None
    model = learner.policy.optimizer.beside[NAME]
    assert isinstance(model, RewardModel), "begin() sets it"
    return model


def margins(model: RewardModel, policy: Policy, pairs: Sequence[Comparison]) -> list[float]:
    """By how much each chosen reply is scored above the rejected one: what to measure on pairs held out."""
    scores = model.score(sides_of(policy, pairs))
    return [chosen - rejected for chosen, rejected in zip(scores[::2], scores[1::2], strict=True)]


def sides_of(policy: Policy, pairs: Sequence[Comparison]) -> list[Trajectory]:
    return [side for pair, row in enumerate(pairs) for side in both(policy, row, pair)]


METHOD = RewardModelling
