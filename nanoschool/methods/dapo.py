"""dapo: GRPO with a higher clip above, dynamic sampling, a mean over tokens and soft overlong punishment (2503.14476).

No KL term. Problems whose attempts are all right or all wrong teach nothing: others are drawn until every group has both.
What we changed from the paper: a later draw is of as many problems as are missing, and there are at most `draws` of them,
so that a step's cost is bounded (the paper resamples until the batch is full); which groups differ is read from the world's
own reward, as in the authors' code; answers that were cut off are punished and learned from, as there, and not masked too
(section 3.4 tries both); two minibatches a batch, not 16.
"""

from dataclasses import dataclass, replace
from itertools import groupby
from typing import ClassVar

from torch import Tensor

from nanoschool.core.batch import Batch
from nanoschool.credit import by_group, clipped, differs, group_normalised, overlong, ratio
from nanoschool.methods.base import Learner, require
from nanoschool.methods.reuse import Reuse
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class DAPO(Reuse):
    judged: ClassVar[bool] = False  # it draws on until the world's rewards differ
    minibatches: int = 2
    clip: float = 0.2
    clip_high: float = 0.28
    buffer: float = 0.2  # of max_tokens: the last part of an answer, in which each token is punished more
    draws: int = 3  # of problems a step, at most

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in ("clip", "clip_high"):
            value = getattr(self, setting)
            require(value >= 0, self, f"{setting}={value} must be 0 or more")
        require(0 <= self.buffer <= 1, self, f"buffer={self.buffer} must be from 0 to 1, of max_tokens")
        require(self.draws >= 1, self, f"draws={self.draws} must be at least 1")

    def collect(self, learner: Learner) -> list[Trajectory]:
        """Draws until `problems` groups differ (Eq. 11); those that do not are returned too, worth 0."""
        attempts: list[Trajectory] = []
        useful = 0
        for draw in range(self.draws):
            drawn = self.attempt(learner, self.problems - useful, f"/{draw}")
            attempts += [replace(t, group=t.group + self.problems * draw) for t in drawn]
            useful = len({t.group for t, keep in zip(attempts, kept(attempts), strict=True) if keep})
            if useful == self.problems:
                break
        return attempts

    def advantages(self, trajectories: list[Trajectory]) -> list[float]:
        """GRPO's, of the reward plus the punishment (Eq. 9 and 13), in groups that differ."""
        paid = [None if t.rewards is None else t.rewards + self.punishment(t) for t in trajectories]
        advantages = by_group([t.group for t in trajectories], paid, group_normalised)
        return [a if useful else 0.0 for a, useful in zip(advantages, kept(trajectories), strict=True)]

    def punishment(self, trajectory: Trajectory) -> float:
        """Of the longest reply, since max_tokens bounds a reply."""
        length = max(sum(run) for _, run in groupby(trajectory.mask))
        return overlong(length, self.max_tokens, round(self.buffer * self.max_tokens))

    def objective(self, logprobs_BT: Tensor, batch: Batch) -> Tensor:
        return clipped(ratio(logprobs_BT, batch.logprobs), batch.weights, self.clip, self.clip_high)


def kept(trajectories: list[Trajectory]) -> list[float]:
    """Whether each one's group differs in the world's own reward."""
    return by_group([t.group for t in trajectories], [t.rewards for t in trajectories], differs)


METHOD = DAPO
