"""gradients: what each problem's attempts, credited so, add to the policy gradient."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nanoschool.core.batch import Batch, Totals
from nanoschool.core.model import GPT
from nanoschool.core.optim import Optimizer
from nanoschool.core.policy import Policy
from nanoschool.lab.grade import cosine, signal_to_noise
from nanoschool.types import Trajectory

Credit = Sequence[Sequence[float]]  # by attempt, one number a token


class Kept(Optimizer):
    """Keeps the gradient of each step, flat, and changes nothing."""

    def __init__(self, model: GPT) -> None:
        super().__init__([], clip=float("inf"))
        self.model, self.gradients = model, []

    def step(self, scale: float) -> float:
        flat = torch.cat([p.grad.flatten() for p in self.model.parameters() if p.grad is not None])
        self.model.zero_grad(set_to_none=True)
        self.gradients.append(flat.cpu().numpy())
        return float(np.linalg.norm(self.gradients[-1]))


def by_problem(policy: Policy, attempts: Sequence[Trajectory], credit: Credit) -> np.ndarray:
    """Σ_t credit_t ∇log π(y_t) over each problem's attempts, (P, parameters) in float32. Billed as three passes each."""
    watched = Policy(policy.model, policy.tokenizer, policy.ledger, policy.micro_tokens)
    watched.optimizer = kept = Kept(policy.model)
    for group in dict.fromkeys(t.group for t in attempts):
        rows = [
            replace(t, weights=list(c)) for t, c in zip(attempts, credit, strict=True) if t.group == group
        ]
        watched.fit(rows, summed)
    return np.stack(kept.gradients)


def summed(logprobs_BT: Tensor, batch: Batch, totals: Totals) -> Tensor:
    """Σ w log π, divided by nothing: a problem with more tokens adds more."""
    return (batch.weights * logprobs_BT)[batch.mask].sum()


class Beside:
    """The true policy gradient of some attempts, by problem, to hold others beside."""

    def __init__(self, policy: Policy, attempts: Sequence[Trajectory], true: Credit) -> None:
        self.policy, self.attempts = policy, attempts
        self.true_PD = self._parts(true)
        self.gram_PP = self.true_PD @ self.true_PD.T

    @property
    def signal_to_noise(self) -> dict[str, float] | None:
        return self._ratio(self.gram_PP)

    def marks(self, credit: Credit) -> dict[str, Any]:
        """The angle of a credit's gradient to the true one, and its own signal to noise; None where it has none."""
        own_PD = self._parts(credit)
        own_PP = own_PD @ own_PD.T
        there = own_PP.any() and self.gram_PP.any()
        angle = cosine(own_PP, own_PD @ self.true_PD.T, self.gram_PP) if there else None
        return {"cosine": angle and angle.to_json(), "signal_to_noise": self._ratio(own_PP)}

    def _parts(self, credit: Credit) -> np.ndarray:
        with self.policy.ledger.account("gradients"):
            return by_problem(self.policy, self.attempts, credit).astype(np.float64)

    def _ratio(self, gram_PP: np.ndarray) -> dict[str, float] | None:
        return signal_to_noise(gram_PP).to_json() if len(gram_PP) > 2 and gram_PP.any() else None
