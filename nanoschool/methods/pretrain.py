"""pretrain: reading. Next-token prediction over a mix of worlds' documents and text (Radford et al. 2018).

What we add: a curriculum. Worlds whose documents grow harder are asked for `level`; it rises when the loss on one of
them, `watch`, says that the present level is read well. The level is state, so that a batch stays a function of
(seed, stage, step, level).
"""

import math
from dataclasses import dataclass

from torch import Tensor

from nanoschool.core.batch import Batch, Totals, weighted_nll
from nanoschool.core.optim import muon_adamw
from nanoschool.methods.base import Learner, Method, trapezoid
from nanoschool.methods.material import reading


@dataclass(frozen=True)
class Pretrain(Method):
    rows: int = 32  # of a full context each
    lr: float = 0.02  # Muon's, for the matrices
    embedding_lr: float = 0.03
    gain_lr: float = 0.003
    warmup: float = 0.03  # of the budget
    cooldown: float = 0.4  # of the budget, linearly to 0
    watch: str = "rules"  # the world whose loss moves the curriculum; "" for none
    mastered: float = 0.3  # nats a token on `watch` at which the level rises
    levels: int = 3  # rises from easiest to hardest

    def begin(self, learner: Learner) -> None:
        learner.policy.optimizer = muon_adamw(learner.policy.model, self.lr, self.embedding_lr, self.gain_lr)

    def step(self, learner: Learner) -> dict[str, float]:
        level = learner.state.setdefault("level", 0 if self.watch else self.levels)
        with learner.policy.ledger.account("fit"):
            batch = Batch.of(reading(learner, self.rows, level / self.levels, watch=self.watch))
            watched = _Watched()
            scale = trapezoid(learner.progress, self.warmup, self.cooldown)
            metrics = learner.policy.fit(batch, watched.loss, scale=scale)
        if watched.tokens:
            self._raise_level(learner, watched.nll / watched.tokens)
        return metrics | {"lr": self.lr * scale, "level": float(level)}

    def _raise_level(self, learner: Learner, nll: float) -> None:
        seen = learner.state.get("watched_nll", math.log(100))
        learner.state["watched_nll"] = 0.8 * seen + 0.2 * nll
        if learner.state["watched_nll"] < self.mastered and learner.state["level"] < self.levels:
            learner.state["level"] += 1
            learner.state["watched_nll"] = math.log(100)


class _Watched:
    """The default loss, which also sums the loss on the watched rows as it passes."""

    def __init__(self) -> None:
        self.nll, self.tokens = 0.0, 0

    def loss(self, logprobs_BT: Tensor, batch: Batch, totals: Totals) -> Tensor:
        on = batch.mask & (batch.extra["watched"] > 0)
        self.nll -= float(logprobs_BT.detach()[on].sum())
        self.tokens += int(on.sum())
        return weighted_nll(logprobs_BT, batch, totals)


METHOD = Pretrain
