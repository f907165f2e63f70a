"""inverted_reward: a control: every attempt is paid the opposite of what it earned (after 2506.10947).

It must lose what reinforcement gains: where it does not, something other than the reward is at work. What we changed
from the paper: it pays for agreeing with a wrong answer, we pay minus the world's reward, so that it is RLOO's exact mirror.
"""

from dataclasses import dataclass

from nanoschool.methods.base import Learner
from nanoschool.methods.proxy import Proxy
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class InvertedReward(Proxy):
    def paid(self, learner: Learner, trajectories: list[Trajectory]) -> list[float | None]:
        return [None if t.rewards is None else -t.rewards for t in trajectories]


METHOD = InvertedReward
