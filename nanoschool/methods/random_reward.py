"""random_reward: a control: every attempt is paid 1 or 0 by a coin (Spurious Rewards, 2506.10947, section 2).

Whatever it gains owes nothing to the world's reward. What we changed from the paper: RLOO in GRPO's place, which has no
clip: the paper's later version explains the gains it saw by the clip's bias.
"""

from dataclasses import dataclass

from nanoschool.methods.base import Learner, require
from nanoschool.methods.proxy import Proxy
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class RandomReward(Proxy):
    chance: float = 0.5  # of being paid

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.chance < 1, self, f"chance={self.chance} must be above 0 and below 1")

    def paid(self, learner: Learner, trajectories: list[Trajectory]) -> list[float]:
        coin = learner.random("reward")
        return [float(coin.random() < self.chance) for _ in trajectories]


METHOD = RandomReward
