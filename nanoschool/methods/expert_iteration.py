"""expert_iteration: imitate one's own right answers (STaR, 2203.14465; rejection-sampling fine-tuning, 2308.01825).

An attempt is kept if its reward reaches `threshold`, once for each wording, and at most `most` to a problem, so that easy
problems do not drown the hard ones. Kept attempts weigh 1, all others 0; the loss is the mean over tokens.
What we changed from the papers: an iteration is one step, and the weights go on from where they are, not from the base; no
rationalisation (STaR's hint of the right answer), for worlds do not work backwards from one.
"""

from collections import Counter
from dataclasses import dataclass

from nanoschool.methods.base import require
from nanoschool.methods.practice import Practice
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class ExpertIteration(Practice):
    threshold: float = 1.0  # the reward of a right answer
    most: int = 4  # kept answers to a problem

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.most >= 1, self, f"most={self.most} must be at least 1")

    def advantages(self, trajectories: list[Trajectory]) -> list[float]:
        """1 for an attempt to be imitated, else 0."""
        said: set[tuple[int, tuple[str, ...]]] = set()
        kept = Counter[int]()
        out = []
        for t in trajectories:
            wording = (t.group, tuple(t.replies))
            right = t.rewards is not None and t.rewards >= self.threshold
            keep = right and wording not in said and kept[t.group] < self.most
            if keep:
                said.add(wording)
                kept[t.group] += 1
            out.append(float(keep))
        return out


METHOD = ExpertIteration
