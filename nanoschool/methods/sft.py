"""sft: imitation of worked examples, cross-entropy on what the assistant says (2203.02155, section 3.1).

What we add: `replay` rows of the reading at a lower weight, so that what was read is not forgotten.
"""

from dataclasses import dataclass

from nanoschool.core.optim import adamw
from nanoschool.methods import shown
from nanoschool.methods.base import Learner, Method, require, require_schedule, require_weights, trapezoid
from nanoschool.methods.material import demonstrations, reading
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class SFT(Method):
    rows: int = 48  # conversations a step
    replay: int = 8  # rows of reading a step
    replay_weight: float = 0.5
    lr: float = 1e-3
    beta2: float = 0.95
    warmup: float = 0.06
    cooldown: float = 0.9

    def __post_init__(self) -> None:
        require(self.rows >= 1, self, f"rows={self.rows} must be at least 1")
        require(self.replay >= 0, self, f"replay={self.replay} must be 0 or more rows")
        require_weights(self, beta2=self.beta2, replay_weight=self.replay_weight)
        require_schedule(self, warmup=self.warmup, cooldown=self.cooldown, lr=self.lr)

    def draws_on(self) -> tuple[str, ...]:
        return ("taught", "mix") if self.replay else ("taught",)

    def begin(self, learner: Learner) -> None:
        learner.policy.optimizer = adamw(learner.policy.model, self.lr, betas=(0.9, self.beta2))

    def collect(self, learner: Learner) -> list[Trajectory]:
        taught = demonstrations(learner, self.rows)
        return taught + (reading(learner, self.replay, weight=self.replay_weight) if self.replay else [])

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        return {}  # a demonstration is worth what `trained` gave it

    def fit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        scale = trapezoid(learner.progress, self.warmup, self.cooldown)
        return shown.fit(learner.policy, trajectories, scale=scale, dtype=learner.policy.fast) | {
            "lr": self.lr * scale
        }


METHOD = SFT
