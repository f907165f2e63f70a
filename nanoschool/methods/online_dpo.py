"""online_dpo: DPO on the policy's own attempts, judged as they are made (2402.04792).

A step attempts fresh train problems `samples` times each; the best attempt and the worst, as the judge scores them, are the
comparison, and a problem whose attempts are all equally good is left out. The judge is the world's own reward, or a reward
model where the stage names one. What we changed from the paper: its judge is a large language model; more than 2 samples are
allowed; AdamW at a learning rate for a small model.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from nanoschool import preference
from nanoschool.methods.base import Learner, require
from nanoschool.methods.pairwise import Preference, Replies
from nanoschool.rollout import alone, rollout
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class OnlineDPO(Preference):
    needs_env: ClassVar[bool] = True
    judged: ClassVar[bool] = True

    beta: float = 0.1
    problems: int = 16  # a step
    samples: int = 2
    temperature: float = 0.9
    max_tokens: int = 96  # of a reply

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting, least in (("problems", 1), ("samples", 2), ("max_tokens", 1)):
            value = getattr(self, setting)
            require(value >= least, self, f"{setting}={value} must be at least {least}")
        for setting in ("beta", "temperature"):
            value = getattr(self, setting)
            require(value > 0, self, f"{setting}={value} must be above 0")

    def objective(self, chosen: Replies, rejected: Replies) -> Tensor:
        return preference.dpo(chosen.ratios, rejected.ratios, self.beta)

    def reward(self, replies: Replies) -> Tensor:
        return self.beta * replies.ratios

    def collect(self, learner: Learner) -> list[Trajectory]:
        assert learner.env is not None, "the stage names a world"
        return rollout(
            learner.policy,
            learner.env,
            learner.env.tasks("train", self.problems, seed=learner.draw_seed("tasks")),
            samples=self.samples,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=learner.draw_seed("rollout"),
            play=alone(learner.env, learner.env.play),
        )

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        """Make the best and the worst attempt of each problem the sides of a comparison."""
        groups: dict[int, list[tuple[float, int]]] = {}
        for i, t in enumerate(trajectories):
            if t.rewards is not None:
                groups.setdefault(t.group, []).append((t.rewards, i))
        compared = 0
        for group, scored in groups.items():
            (most, best), (least, worst) = max(scored), min(scored)
            if most > least:
                compared += 1
                for row, worth in ((best, 1.0), (worst, -1.0)):
                    t = trajectories[row]
                    t.pair, t.weights = group, [worth if sampled else 0.0 for sampled in t.mask]
        rewards = [t.rewards for t in trajectories if t.rewards is not None]
        return {
            "reward": sum(rewards) / max(len(rewards), 1),
            "compared": compared / max(len({t.group for t in trajectories}), 1),
            "cut_off": sum(t.stop_reason == "length" for t in trajectories) / len(trajectories),
        }

    def fit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        compared = [t for t in trajectories if t.pair is not None]
        if not compared:
            return {"skipped": 1.0}
        return super().fit(learner, compared) | {"skipped": 0.0}


METHOD = OnlineDPO
