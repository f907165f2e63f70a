"""review_imitation: imitate an attempt as its review corrects it, up to the correction's end (after DAgger, 1011.0686).

What stands before the place that the review blames is right by what it says, and what should stand there it tells; behind
that nothing is known, so nothing is imitated. What we changed from the paper: the expert speaks only of the first wrong
place. Attempts that are right, or whose review does not correct them, are not imitated. The reward is not used.
"""

from dataclasses import dataclass
from typing import ClassVar

from nanoschool.methods.base import Learner
from nanoschool.methods.critique import Reviewed, corrected, require_place
from nanoschool.methods.practice import Practice, measures
from nanoschool.methods.shown import NEWS
from nanoschool.types import Environment, Trajectory


@dataclass(frozen=True)
class ReviewImitation(Reviewed, Practice):
    judged: ClassVar[bool] = False  # it learns from the review

    def check(self, env: Environment) -> None:
        super().check(env)
        require_place(self, env)

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        return measures(trajectories)

    def fit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        shown = []
        for pair in (corrected(learner.policy.tokenizer, t) for t in trajectories):
            if pair:
                row, _ = pair
                known = row.extra.pop("known")
                row.mask = [bool(k) for k in known]
                row.weights = known
                shown.append(row)
        return super().fit(learner, shown) | {"corrected": len(shown) / len(trajectories)}

    def offered(self, learner: Learner, trajectories: list[Trajectory]) -> float:
        """Only the reviews, which are billed as they come."""
        return 0.0

    def update(
        self, learner: Learner, useful: list[Trajectory], kept: list[Trajectory], scale: float
    ) -> dict[str, float]:
        for rows, news in ((useful, 0.0), (kept, 1.0)):
            for row in rows:
                row.extra[NEWS] = [news] * len(row.tokens)
        return super().update(learner, useful, kept, scale)


METHOD = ReviewImitation
