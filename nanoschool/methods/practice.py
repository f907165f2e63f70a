"""Practice: what every critic-free method that learns from a verifiable reward shares; each paper says how to credit.

A step draws fresh train problems, attempts each `samples` times, credits the attempts and fits them once, with a
little replay of demonstrations so that other skills stay. Where no attempt has an advantage nothing is fitted.
"""

from dataclasses import dataclass
from typing import ClassVar

from nanoschool import bits
from nanoschool.core.optim import adamw
from nanoschool.credit import zero_variance
from nanoschool.methods import shown
from nanoschool.methods.base import Learner, Method, require, require_schedule, require_weights, trapezoid
from nanoschool.methods.material import demonstrations
from nanoschool.rollout import alone, rollout
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class Practice(Method):
    needs_env: ClassVar[bool] = True
    judged: ClassVar[bool] = True

    problems: int = 18  # a step
    samples: int = 16  # attempts at each: the group
    temperature: float = 1.0
    max_tokens: int = 96  # of a reply
    lr: float = 4e-4
    beta2: float = 0.99
    warmup: float = 0.06
    cooldown: float = 0.3
    replay: int = 12  # demonstrations a step
    replay_weight: float = 0.2

    def __post_init__(self) -> None:
        for setting, least in (("problems", 1), ("samples", 2), ("max_tokens", 1)):
            value = getattr(self, setting)
            require(value >= least, self, f"{setting}={value} must be at least {least}")
        fine = 1e-3 <= self.temperature < float("inf")
        require(fine, self, f"temperature={self.temperature} must be at least 0.001: attempts must differ")
        require(self.replay >= 0, self, f"replay={self.replay} must be 0 or more demonstrations")
        require_weights(self, beta2=self.beta2, replay_weight=self.replay_weight)
        require_schedule(self, warmup=self.warmup, cooldown=self.cooldown, lr=self.lr)

    def draws_on(self) -> tuple[str, ...]:
        return ("taught",) if self.replay else ()

    def begin(self, learner: Learner) -> None:
        learner.policy.optimizer = adamw(learner.policy.model, self.lr, betas=(0.9, self.beta2))

    def collect(self, learner: Learner) -> list[Trajectory]:
        return self.attempt(learner, self.problems)

    def attempt(self, learner: Learner, problems: int, draw: str = "") -> list[Trajectory]:
        """A group of attempts at each of so many train problems; another `draw` of the same step is of others."""
        assert learner.env is not None, "the stage names a world"
        tasks = learner.env.tasks("train", problems, seed=learner.draw_seed("tasks" + draw))
        return rollout(
            learner.policy,
            learner.env,
            tasks,
            samples=self.samples,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=learner.draw_seed("rollout" + draw),
            play=alone(learner.env, learner.env.play),
        )

    def advantages(self, trajectories: list[Trajectory]) -> list[float]:
        """One number an attempt; the paper's part."""
        raise TypeError(f"{type(self).__name__} defines no advantages()")

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        advantages = self.advantages(trajectories)
        counts = f"advantages() gives {len(advantages)} numbers for {len(trajectories)} attempts; one each"
        require(len(advantages) == len(trajectories), self, counts)
        for trajectory, advantage in zip(trajectories, advantages, strict=True):
            trajectory.weights = [advantage if sampled else 0.0 for sampled in trajectory.mask]
        return measures(trajectories)

    def offered(self, learner: Learner, trajectories: list[Trajectory]) -> float:
        """Of the rewards, each predicted by the shares of its group."""
        return bits.of_groups([t.group for t in trajectories], [t.rewards for t in trajectories])

    def fit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        useful = [t for t in trajectories if any(t.weights)]
        if not useful:
            return {"skipped": 1.0}
        kept = demonstrations(learner, self.replay, self.replay_weight) if self.replay else []
        scale = trapezoid(learner.progress, self.warmup, self.cooldown)
        return self.update(learner, useful, kept, scale) | {"lr": self.lr * scale, "skipped": 0.0}

    def update(
        self, learner: Learner, useful: list[Trajectory], kept: list[Trajectory], scale: float
    ) -> dict[str, float]:
        """One optimizer step on attempts that have an advantage, and on what is replayed."""
        return shown.fit(learner.policy, useful + kept, scale=scale)


def measures(trajectories: list[Trajectory]) -> dict[str, float]:
    """What a practitioner watches: reward, entropy (nats a sampled token), groups that teach nothing, answer length."""
    rewards = [t.rewards for t in trajectories]
    scored = [r for r in rewards if r is not None]
    sampled = sum(sum(t.mask) for t in trajectories)
    entropy = sum(sum(t.extra["entropy"]) for t in trajectories)
    return {
        "reward": sum(scored) / max(len(scored), 1),
        "entropy": entropy / max(sampled, 1),
        "zero_variance": zero_variance([t.group for t in trajectories], rewards),
        "answer_tokens": sampled / len(trajectories),
        "cut_off": sum(t.stop_reason == "length" for t in trajectories) / len(trajectories),
    }
