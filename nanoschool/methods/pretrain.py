"""pretrain: reading. Next-token prediction over a mix of worlds' documents and text (Radford et al. 2018).

Rows are drawn by the worlds' shares, and loss falls on the spans that a world marks as learned.
"""

from dataclasses import dataclass
from typing import ClassVar

from nanoschool.core.optim import muon_adamw
from nanoschool.methods import shown
from nanoschool.methods.base import Learner, Method, require, require_schedule, trapezoid
from nanoschool.methods.material import reading
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class Pretrain(Method):
    converses: ClassVar[bool] = False

    rows: int = 32  # of a full context each
    lr: float = 0.02  # Muon's, for the matrices
    embedding_lr: float = 0.03
    gain_lr: float = 0.003
    warmup: float = 0.03  # of the budget
    cooldown: float = 0.4  # of the budget, linearly to 0

    def __post_init__(self) -> None:
        require(self.rows >= 1, self, f"rows={self.rows} must be at least 1")
        rates = {"lr": self.lr, "embedding_lr": self.embedding_lr, "gain_lr": self.gain_lr}
        require_schedule(self, warmup=self.warmup, cooldown=self.cooldown, **rates)

    def draws_on(self) -> tuple[str, ...]:
        return ("mix",)

    def begin(self, learner: Learner) -> None:
        learner.policy.knows = {}  # what it is about to read may change that
        learner.policy.optimizer = muon_adamw(learner.policy.model, self.lr, self.embedding_lr, self.gain_lr)

    def collect(self, learner: Learner) -> list[Trajectory]:
        return reading(learner, self.rows)

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        return {}  # every learned token is worth 1

    def fit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        scale = trapezoid(learner.progress, self.warmup, self.cooldown)
        return shown.fit(learner.policy, trajectories, scale=scale, dtype=learner.policy.fast) | {
            "lr": self.lr * scale
        }


METHOD = Pretrain
