"""review_reward: what a review blames is punished and what stands before it rewarded (after VPPO, 2601.18984).

`step_reward` with a review in place of the world's oracle: the first wrong step is the place that the text names. An attempt
whose review names no place is worth +1 throughout, so a reviewer who is silent about mistakes rewards them.
"""

from dataclasses import dataclass
from typing import ClassVar

from nanoschool.methods.base import Learner
from nanoschool.methods.critique import Reviewed, blamed_token, require_place
from nanoschool.methods.step_reward import StepReward
from nanoschool.types import Environment, Trajectory


@dataclass(frozen=True)
class ReviewReward(Reviewed, StepReward):
    learns_from: ClassVar[tuple[type, ...]] = ()

    def check(self, env: Environment) -> None:
        super().check(env)
        require_place(self, env)

    def offered(self, learner: Learner, trajectories: list[Trajectory]) -> float:
        """Only the reviews, which are billed as they come."""
        return 0.0

    def first_wrong(self, learner: Learner, t: Trajectory) -> int:
        return blamed_token(learner.policy.tokenizer, t)


METHOD = ReviewReward
