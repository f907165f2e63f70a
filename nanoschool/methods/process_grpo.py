"""process_grpo: GRPO with process supervision: every step of a reply is paid for itself (2402.03300, section 4.1.3).

The world's reward of each step, normalised over all steps of the group; a token's advantage is the sum over the steps
that end with it or later, each `discount` times as much as the one before. What we changed from the paper: the world pays,
where a trained model does there; one on-policy step a batch, so no ratio, and no KL term; `discount` 0 pays a token for its
own step alone, which is all that matters where steps do not depend on each other; several turns are paid by the last.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nanoschool import bits
from nanoschool.credit import group_normalised
from nanoschool.methods.base import Learner, require
from nanoschool.methods.practice import Practice, measures
from nanoschool.methods.stepped import spread, steps_of
from nanoschool.types import HasStepRewards, Trajectory


@dataclass(frozen=True)
class ProcessGRPO(Practice):
    learns_from: ClassVar[tuple[type, ...]] = (HasStepRewards,)
    judged: ClassVar[bool] = False  # the world says what each step earns

    discount: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.discount <= 1, self, f"discount={self.discount} must be from 0 to 1")

    def offered(self, learner: Learner, trajectories: list[Trajectory]) -> float:
        """Of all step rewards of an attempt, predicted by the shares of its group."""
        env = learner.env
        assert isinstance(env, HasStepRewards), "check() asks for it"
        paid = [tuple(env.step_rewards(t.task, t.replies)) if t.task else None for t in trajectories]
        return bits.of_groups([t.group for t in trajectories], paid)

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        env, tokenizer = learner.env, learner.policy.tokenizer
        assert isinstance(env, HasStepRewards), "check() asks for it"
        groups: dict[int, list[tuple[Trajectory, list[int], list[float]]]] = {}
        for t in trajectories:
            assert t.task is not None, "an attempt at a task"
            last = len(t.replies) - 1
            starts = [at for turn, at in steps_of(tokenizer, env, t) if turn == last]
            paid = env.step_rewards(t.task, t.replies)
            both = min(len(starts), len(paid))  # a boundary inside a token joins two steps
            if both:
                groups.setdefault(t.group, []).append((t, starts[:both], paid[:both]))
        for group in groups.values():
            worth = iter(group_normalised([reward for _, _, paid in group for reward in paid]))
            for t, starts, paid in group:
                advantages = spread(
                    to_come([next(worth) for _ in paid], self.discount), starts, len(t.tokens)
                )
                t.weights = [a if sampled else 0.0 for a, sampled in zip(advantages, t.mask, strict=True)]
        return measures(trajectories)


def to_come(rewards_K: Sequence[float], discount: float) -> list[float]:
    """Each step's reward and those behind it, discounted."""
    out, ahead = [], 0.0
    for reward in reversed(rewards_K):
        ahead = reward + discount * ahead
        out.append(ahead)
    return out[::-1]


METHOD = ProcessGRPO
