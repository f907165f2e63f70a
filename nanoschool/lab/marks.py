"""marks: each method's credit for the steps of some attempts, graded by what the steps were truly worth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nanoschool.evals.stats import Estimate
from nanoschool.lab.grade import correlation, idle_share, share, sign_agreement
from nanoschool.lab.truth import Step
from nanoschool.types import Trajectory

Credit = Sequence[Sequence[float]]  # by attempt, one number a token


@dataclass(frozen=True)
class Told:
    """Scored attempts and their steps. A step made no difference where its advantage is within ±`least`."""

    attempts: Sequence[Trajectory]
    steps: Sequence[Sequence[Step]]  # by attempt
    least: float

    @property
    def every(self) -> list[tuple[int, Step]]:
        return [(i, step) for i, mine in enumerate(self.steps) for step in mine]

    @property
    def problems_K(self) -> list[int]:
        return [self.attempts[i].group for i, _ in self.every]

    @property
    def truth_K(self) -> np.ndarray:
        return np.array([step.advantage for _, step in self.every])

    @property
    def rewarded(self) -> list[bool]:
        """Whether an attempt earned more than its problem was worth to begin with: the sum of its advantages is above 0."""
        return [sum(step.advantage for step in mine) > 1e-9 for mine in self.steps]

    @property
    def rewarded_K(self) -> np.ndarray:
        rewarded = self.rewarded
        return np.array([rewarded[i] for i, _ in self.every])

    def credit(self) -> list[list[float]]:
        """The true advantage of its step on every token: what all credit is held against."""
        out = [[0.0] * len(t.tokens) for t in self.attempts]
        for i, step in self.every:
            out[i][step.first : step.past] = [step.advantage] * (step.past - step.first)
        return out


def grades(told: Told, credit: Credit) -> dict[str, Any]:
    """What the report says of a method; None where a number is not defined."""
    parts = [_sampled(told.attempts[i], credit[i], step) for i, step in told.every]
    mean_K, weight_K = np.array([p.mean() for p in parts]), np.array([np.abs(p).sum() for p in parts])
    truth_K, problems, least = told.truth_K, told.problems_K, told.least
    lucky_K = told.rewarded_K & (truth_K <= least)
    harm_K = told.rewarded_K & (truth_K < -least)
    found = {
        "correlation": correlation(mean_K, truth_K, problems),
        "sign": sign_agreement(mean_K, truth_K, problems, least),
        "idle": idle_share(weight_K, truth_K, problems, least),
        "lucky": share(lucky_K & (mean_K > 0), lucky_K, problems),
        "harm": share(harm_K & (mean_K > 0), harm_K, problems),
    }
    known = [k for k, (_, step) in enumerate(told.every) if step.perfect is not None]
    if known:
        perfect = [float(told.every[k][1].perfect or 0.0) for k in known]
        found["perfect"] = correlation(mean_K[known], perfect, [problems[k] for k in known])
    return {name: said(estimate) for name, estimate in found.items()}


def said(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else estimate.to_json()


def counts(told: Told) -> dict[str, int]:
    """Every n of the report."""
    truth_K, least = told.truth_K, told.least
    lucky_K = told.rewarded_K & (truth_K <= least)
    return {
        "problems": len(set(told.problems_K)),
        "attempts": len(told.attempts),
        "rewarded": sum(told.rewarded),
        "steps": len(truth_K),
        "idle": int((np.abs(truth_K) <= least).sum()),
        "helpful": int((truth_K > least).sum()),
        "harmful": int((truth_K < -least).sum()),
        "lucky": int(lucky_K.sum()),
        "harm": int((told.rewarded_K & (truth_K < -least)).sum()),
    }


def sureness(told: Told) -> dict[str, float]:
    """How well the truth itself is known: its spread, its standard error, and the correlation that the exact truth would
    have with it: sqrt(1 − mean error² / variance)."""
    errors_K = np.array([step.error for _, step in told.every])
    spread = float(told.truth_K.var())
    reliable = 1 - float((errors_K**2).mean()) / spread if spread else 0.0
    return {
        "deviation": spread**0.5,
        "error": float(np.median(errors_K)),
        "ceiling": max(reliable, 0.0) ** 0.5,
    }


def luckiest(told: Told) -> int:
    """The rewarded attempt whose worst step cost most; of equals, that with the most steps that made no difference."""
    rewarded = [i for i, lucky in enumerate(told.rewarded) if lucky]

    def luck(i: int) -> tuple[float, int]:
        worth = [step.advantage for step in told.steps[i]]
        return min(worth), -sum(abs(a) <= told.least for a in worth)

    return min(rewarded or range(len(told.attempts)), key=luck)


def _sampled(attempt: Trajectory, credit: Sequence[float], step: Step) -> np.ndarray:
    """The credit of the step's tokens that the policy wrote."""
    span = slice(step.first, step.past)
    return np.array([c for c, m in zip(credit[span], attempt.mask[span], strict=True) if m])
