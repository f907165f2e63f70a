"""Method and Learner: a method says where experience comes from (`collect`) and what each token is worth (`credit`).

The loop in `train` owns a Learner and calls `step` until the budget is spent. A method keeps no state of its own:
its fields are its settings, and what it must remember goes into `learner.state`, which is checkpointed.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from nanoschool.core.batch import Batch
from nanoschool.core.policy import Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.rollout import stable_hash
from nanoschool.types import Environment, Trajectory, UserError
from nanoschool.userfile import PREFIX

if TYPE_CHECKING:
    from nanoschool.core.corpus import TokenText
    from nanoschool.core.reward_model import RewardModel


@dataclass
class Learner:
    """Who learns, from what, and how far along. Everything random follows from (seed, stage, step)."""

    policy: Policy
    env: Environment | None  # the world practised in
    worlds: dict[str, Environment]  # those that text and demonstrations are drawn from
    read: dict[str, float]  # shares of the reading, by world; "text" is the user's own
    taught: dict[str, float]  # shares of the demonstrations, by world
    seed: int
    stage: str
    text: "TokenText | None" = None
    step: int = 0
    progress: float = 0.0  # of the budget
    rank: int = 0
    state: dict[str, Any] = field(default_factory=dict)  # plain JSON; survives a kill
    sample: str = ""  # what is being read, imitated or said, for whoever watches
    reference: Policy | None = None  # the policy as the stage found it, where the method asks for it
    teacher: Policy | None = None  # who is imitated, where the method asks for one
    over: Callable[[], bool] = lambda: False  # is the budget spent? A step that is made of many asks
    scratch: Path | None = None  # a folder where such a step keeps what it has, lest a kill cost all of it
    judge: "RewardModel | None" = None  # who pays in the world's place, where the stage names one

    def random(self, purpose: str) -> random.Random:
        return random.Random(f"{self.seed}/{self.stage}/{self.step}/{self.rank}/{purpose}")

    def draw_seed(self, purpose: str) -> int:
        return stable_hash(f"{self.seed}/{self.stage}/{self.step}/{self.rank}/{purpose}")

    def reference_logprobs(self, batch: Batch) -> Tensor:
        """(B, T) under the reference, billed to an account of its own."""
        assert self.reference is not None, "the learner keeps a reference where the method needs one"
        with self.policy.ledger.account("reference"):
            return self.reference.logprobs(batch).cpu()


@dataclass(frozen=True)
class Method:
    """Settings are fields. Subclasses override as little as tells them apart."""

    needs_env: ClassVar[bool] = False  # practises in a world: the stage must name one
    needs_reference: ClassVar[bool] = False
    needs_teacher: ClassVar[bool] = False
    learns_from: ClassVar[tuple[type, ...]] = ()  # what the world must offer: protocols of `types`
    converses: ClassVar[bool] = True  # what comes out of it answers in the chat format
    judged: ClassVar[bool] = (
        False  # what it learns from an attempt is its reward alone, so a judge may pay it
    )
    trains_policy: ClassVar[bool] = True  # else it trains a reward model beside it

    def __post_init__(self) -> None:
        """Check the settings. Raises UserError on one that no run can mean."""

    def draws_on(self) -> tuple[str, ...]:
        """The shares that it takes rows from: "mix" (the reading), "taught" (the demonstrations)."""
        return ()

    def check(self, env: Environment) -> None:
        """Raise UserError where the world lacks what this method learns from; asked before anything is spent."""
        for protocol in self.learns_from:
            what = protocol.__name__.removeprefix("Has").lower()
            lacks = f"world {env.name!r} has no {what}, which it learns from; practise in another"
            require(isinstance(env, protocol), self, lacks)

    def check_start(self, start: Policy) -> None:
        """Raise UserError where it cannot begin with these weights and notes; asked before anything is spent."""

    def check_alone(self) -> None:
        """Raise UserError where, without a world, there is nothing to learn from; asked before anything is spent."""

    def check_rows(self, tokenizer: Tokenizer, context: int) -> None:
        """Raise UserError where a row of its file is longer than the context; asked before anything is spent."""

    def held_out(self, learner: Learner, split: str) -> dict[str, list[float]]:
        """What it is about, on rows of its file that it keeps back: a number a row, `loss` among them, the less the
        better. {} where it has no file."""
        return {}

    def begin(self, learner: Learner) -> None:
        """Set `learner.policy.optimizer`, None where no weight is to change; called once a stage, before a resumed
        state is put back."""
        raise TypeError(f"{type(self).__name__} defines no begin()")

    def collect(self, learner: Learner) -> list[Trajectory]:
        """Where experience comes from."""
        raise TypeError(f"{type(self).__name__} defines no collect()")

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        """Fill in each trajectory's weights; returns metrics."""
        raise TypeError(f"{type(self).__name__} defines no credit()")

    def offered(self, learner: Learner, trajectories: list[Trajectory]) -> float:
        """The bits of the signal that `credit` took in; what is shown as text is billed where it is fitted."""
        return 0.0

    def fit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        """Change the weights by what the tokens are worth."""
        raise TypeError(f"{type(self).__name__} defines no fit()")

    def step(self, learner: Learner) -> dict[str, float]:
        """One turn of the loop: collect, let the judge pay if there is one, credit, fit."""
        with learner.policy.ledger.account("collect"):
            trajectories = self.collect(learner)
        learner.sample = learner.policy.tokenizer.decode(trajectories[0].tokens)
        earned = pay(learner, trajectories) if learner.judge else {}
        with learner.policy.ledger.account("credit"):
            metrics = self.credit(learner, trajectories)
        if offered := self.offered(learner, trajectories):
            with learner.policy.ledger.account("signal"):
                learner.policy.ledger.charge(bits=offered)
        if learner.judge:  # `reward` is the world's own, `paid` what is learned from
            metrics = {"paid": metrics.pop("reward"), **earned, **metrics}
        with learner.policy.ledger.account("fit"):
            return metrics | self.fit(learner, trajectories)

    def conclude(self, learner: Learner) -> None:
        """What is left to do when the budget is spent and the best weights are back, before the exam."""


def pay(learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
    """Put the judge's scores in the place of the world's rewards, billed as `judge`; what the world thought is told."""
    assert learner.judge is not None, "who pays?"
    world = [t.rewards for t in trajectories if t.rewards is not None]
    with learner.policy.ledger.account("judge"):
        scores = learner.judge.score(trajectories)
    for trajectory, score in zip(trajectories, scores, strict=True):
        trajectory.rewards = score
    return {"reward": sum(world) / len(world)} if world else {}


def require(holds: bool, method: Method, complaint: str) -> None:
    """Check a method's setting as it is made. Raises UserError with the complaint, which says what to write."""
    if not holds:
        name = type(method).__module__.rpartition(".")[2].removeprefix(f"{PREFIX}method_")
        raise UserError(f"method {name}: {complaint}")


def require_weights(method: Method, *, beta2: float, replay_weight: float) -> None:
    require(0 <= beta2 < 1, method, f"beta2={beta2} must be from 0 to below 1")
    fine = 0 <= replay_weight < float("inf")
    require(fine, method, f"replay_weight={replay_weight} must be 0 or above, and finite")


def require_schedule(method: Method, *, warmup: float, cooldown: float, **rates: float) -> None:
    """Check what `trapezoid` and the optimizers are given: fractions of the budget, learning rates above 0."""
    for setting, value in (("warmup", warmup), ("cooldown", cooldown)):
        require(0 <= value <= 1, method, f"{setting}={value} must be from 0 to 1, of the budget")
    for setting, value in rates.items():
        require(0 < value < float("inf"), method, f"{setting}={value} must be above 0 and finite")


def trapezoid(progress: float, warmup: float, cooldown: float) -> float:
    """Learning-rate scale at a fraction of the budget: up linearly, flat, down linearly to 0 at the end."""
    rise = (progress + 1e-3) / (warmup + 1e-3)
    return max(0.0, min(1.0, rise, (1.0 - progress) / cooldown if cooldown else 1.0))
