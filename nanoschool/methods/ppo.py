"""ppo: a critic's generalised advantages and a clipped ratio (1707.06347), with the KL in the reward (2203.02155).

r_t = −β k1_t on every sampled token, and the attempt's reward on its last; A by GAE (1506.02438, Eq. 16), whitened. The
critic is a network of its own, fitted to A + V with its own clip; V is of the state before a token, and 0 after the end.
What we changed from the paper: the critic is a copy of the policy as the stage found it and there is no shared trunk, so no
value coefficient; no entropy bonus; the KL is against the stage's first weights, at a fixed β; as in verl, a tool's tokens
are no steps. The ledger has `critic` and `reference` in accounts of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nanoschool.core.batch import Batch, Totals
from nanoschool.core.critic import Critic
from nanoschool.methods.base import Learner, require, trapezoid
from nanoschool.methods.held import Held
from nanoschool.methods.surrogate import Surrogate
from nanoschool.stepwise import clipped_value, gae
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class PPO(Held, Surrogate):
    epochs: int = 2
    minibatches: int = 2
    kl: float = 0.01  # beta, on the k1 estimate
    gamma: float = 1.0
    lam: float = 0.95
    critic_lr: float = 1e-3
    value_clip: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in ("gamma", "lam"):
            value = getattr(self, setting)
            require(0 <= value <= 1, self, f"{setting}={value} must be from 0 to 1")
        require(self.value_clip >= 0, self, f"value_clip={self.value_clip} must be 0 or more")
        require(self.critic_lr > 0, self, f"critic_lr={self.critic_lr} must be above 0")

    def begin(self, learner: Learner) -> None:
        super().begin(learner)
        assert learner.policy.optimizer is not None
        learner.policy.optimizer.beside["critic"] = Critic(learner.policy, self.critic_lr, self.beta2)

    def worth(self, learner: Learner, trajectories: list[Trajectory]) -> Sequence[Sequence[float]]:
        batch = Batch.of(trajectories)
        k1_BT = self.k1(learner, batch)
        with learner.policy.ledger.account("critic"):
            values_BT = critic_of(learner).values(batch)
        worth = []
        for i, t in enumerate(trajectories):
            n, last = len(t.tokens), max(j for j, sampled in enumerate(t.mask) if sampled)
            values = values_BT[i, :n].tolist()
            rewards = (-self.kl * k1_BT[i, :n]).tolist()
            rewards[last] += t.rewards
            advantages = gae(rewards, values, t.mask, self.gamma, self.lam)
            t.extra["value"] = values
            t.extra["return"] = [a + v for a, v in zip(advantages, values, strict=True)]
            worth.append(advantages)
        return worth

    def fit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        """The critic learns from every scored attempt, also where the policy has nothing to learn."""
        scored = [t for t in trajectories if t.rewards is not None]
        if not scored:
            return {"skipped": 1.0}
        batch = Batch.of(scored)
        with learner.policy.ledger.account("critic"):
            loss = critic_of(learner).fit(
                batch,
                self.value_loss,
                scale=trapezoid(learner.progress, self.warmup, self.cooldown),
                epochs=self.epochs,
                minibatches=self.minibatches,
                seed=learner.draw_seed("critic"),
            )
        returns = batch.extra["return"][batch.mask]
        left = returns - batch.extra["value"][batch.mask]
        explained = 1 - left.var() / returns.var().clamp(min=1e-8) if len(returns) > 1 else torch.tensor(0.0)
        return super().fit(learner, trajectories) | {
            "value_loss": loss,
            "explained_variance": float(explained),
        }

    def value_loss(self, values_BT: Tensor, batch: Batch, totals: Totals) -> Tensor:
        per_token = clipped_value(values_BT, batch.extra["return"], batch.extra["value"], self.value_clip)
        return per_token[batch.mask].sum() / max(totals.tokens, 1)


def critic_of(learner: Learner) -> Critic:
    assert learner.policy.optimizer is not None
    critic = learner.policy.optimizer.beside["critic"]
    assert isinstance(critic, Critic), "begin() sets it"
    return critic


METHOD = PPO
