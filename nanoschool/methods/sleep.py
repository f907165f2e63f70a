"""sleep: distil the notes into the weights: the self that has notes teaches the self that has none (2112.00861, 2209.15189).

The teacher is the policy as the stage found it, its notes in its prompt: it answers train problems, and on its answers the
student, whose prompt is empty, is drawn to its distributions by the forward KL, Σ_t KL(π0(·|notes, q, y<t) ‖ π(·|q, y<t)).
Beside them the teacher's own answers to `replay` problems of the taught worlds, without notes, are held fast in the same
way, at `replay_weight`. What we changed from the papers: full distributions and not the sampled token, as at this
vocabulary they cost nothing more; replay, without which everything else is forgotten. What was noted ends in the weights,
and the prompt is empty from the first step on: dev and test ask without notes.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from nanoschool.core.optim import adamw
from nanoschool.core.policy import Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.methods.base import Learner, Method, require, require_schedule, require_weights, trapezoid
from nanoschool.methods.lesson import teach
from nanoschool.methods.material import drawn
from nanoschool.methods.practice import measures
from nanoschool.rollout import alone, rollout
from nanoschool.stepwise import kl
from nanoschool.types import Environment, Trajectory


@dataclass(frozen=True)
class Sleep(Method):
    needs_env: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True  # yesterday's self: the teacher

    problems: int = 16  # a step, answered with the notes in sight
    temperature: float = 1.0
    max_tokens: int = 96  # of a reply
    replay: int = 16  # problems of the taught worlds, answered without notes
    replay_weight: float = 1.0
    lr: float = 4e-4
    beta2: float = 0.99
    warmup: float = 0.06
    cooldown: float = 0.3

    def __post_init__(self) -> None:
        for setting in ("problems", "max_tokens"):
            value = getattr(self, setting)
            require(value >= 1, self, f"{setting}={value} must be at least 1")
        fine = 1e-3 <= self.temperature < float("inf")
        require(fine, self, f"temperature={self.temperature} must be at least 0.001")
        require(self.replay >= 0, self, f"replay={self.replay} must be 0 or more problems")
        require_weights(self, beta2=self.beta2, replay_weight=self.replay_weight)
        require_schedule(self, warmup=self.warmup, cooldown=self.cooldown, lr=self.lr)

    def draws_on(self) -> tuple[str, ...]:
        return ("taught",) if self.replay else ()

    def check_start(self, start: Policy) -> None:
        nothing = "the prompt holds no notes to distil; begin with a run, or after a stage, of notes"
        require(bool(start.prompt), self, nothing)

    def begin(self, learner: Learner) -> None:
        assert learner.reference is not None, "the learner keeps a reference where the method needs one"
        self.check_start(learner.reference)
        learner.policy.prompt = ""
        learner.policy.optimizer = adamw(learner.policy.model, self.lr, betas=(0.9, self.beta2))

    def collect(self, learner: Learner) -> list[Trajectory]:
        """The teacher's answers as it gave them, its notes before those about this world."""
        assert learner.env is not None and learner.reference is not None, "begin() asks for them"
        answers = self._answers(learner, learner.reference, learner.env, self.problems, "notes", 1.0)
        bare = without_prompt(learner.reference)
        for name, rows in drawn(learner.taught, self.replay, learner.random("replay")).items():
            answers += self._answers(learner, bare, learner.worlds[name], rows, name, self.replay_weight)
        return answers

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        return measures(trajectories[: self.problems])

    def fit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        assert learner.reference is not None, "begin() asks for it"
        scale = trapezoid(learner.progress, self.warmup, self.cooldown)
        students = [forget(learner.policy.tokenizer, t) for t in trajectories]
        contexts = [replace(t, extra={}) for t in trajectories]
        metrics = teach(learner.policy, learner.reference, students, contexts, [], forward, scale)
        return metrics | {"lr": self.lr * scale}

    def _answers(
        self, learner: Learner, teacher: Policy, env: Environment, count: int, purpose: str, weight: float
    ) -> list[Trajectory]:
        answers = rollout(
            teacher,
            env,
            env.tasks("train", count, seed=learner.draw_seed(f"tasks/{purpose}")),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=learner.draw_seed(f"answers/{purpose}"),
            play=alone(env, env.play),
        )
        for t in answers:
            t.weights = [weight if sampled else 0.0 for sampled in t.mask]
        return answers


def forward(student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
    return kl(teacher_NV, student_NV)


def without_prompt(policy: Policy) -> Policy:
    """The same weights, not copied, with nothing in the prompt."""
    return Policy(policy.model, policy.tokenizer, policy.ledger, policy.micro_tokens, policy.sampling)


def forget(tokenizer: Tokenizer, t: Trajectory) -> Trajectory:
    """The attempt as one without notes would have it: the system message at its head taken out."""
    system = t.tokens[1] == tokenizer.role_id("system")
    past = t.tokens.index(tokenizer.end) + 1 if system else 1

    def cut(row: list) -> list:
        return row[:1] + row[past:]

    return replace(
        t, tokens=cut(t.tokens), mask=cut(t.mask), logprobs=cut(t.logprobs), weights=cut(t.weights), extra={}
    )


METHOD = Sleep
