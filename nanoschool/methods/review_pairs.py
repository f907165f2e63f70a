"""review_pairs: DPO on pairs that a review makes: an attempt as corrected against the attempt (2305.18290, 2212.08073).

The corrected side is the attempt with what the review calls right in place of what it calls wrong, as Constitutional AI's
revisions are. What we changed: the correction is put in by a program, so only reviews that name a place and what is right
there make a pair; both sides end with the reply that is blamed. The reward is not used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from nanoschool.methods.base import Learner
from nanoschool.methods.critique import Reviewed, corrected, require_place
from nanoschool.methods.online_dpo import OnlineDPO
from nanoschool.methods.practice import measures
from nanoschool.types import Environment, Trajectory


@dataclass(frozen=True)
class ReviewPairs(Reviewed, OnlineDPO):
    judged: ClassVar[bool] = False  # it learns from the review

    def check(self, env: Environment) -> None:
        super().check(env)
        require_place(self, env)

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        return measures(trajectories)  # a side is worth what `corrected` gives it

    def offered_by(self, margins: Sequence[float]) -> float:
        """Only the reviews, which are billed as they come, and make the pairs."""
        return 0.0

    def fit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        made = [corrected(learner.policy.tokenizer, t) for t in trajectories]
        sides = [replace(side, pair=i, extra={}) for i, pair in enumerate(made) for side in pair or ()]
        return super().fit(learner, sides) | {"corrected": len(sides) / 2 / len(trajectories)}


METHOD = ReviewPairs
