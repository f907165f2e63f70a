"""credited: what each method would credit the same attempts with, token by token, from the same policy.

A method that practises is handed the attempts in place of its own `collect`. One that learns from comparisons is handed, for
each problem whose attempts differ, the best and the worst of them (as in 2404.19733). A critic is fitted first, on attempts
of its own, with the policy held still. Everything is billed on the policy's ledger, by method.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from nanoschool import methods
from nanoschool.core.policy import Policy
from nanoschool.lab.pushes import Watched, numbered
from nanoschool.methods.base import Learner
from nanoschool.methods.online_dpo import OnlineDPO
from nanoschool.methods.pairwise import Preference
from nanoschool.methods.ppo import PPO
from nanoschool.methods.practice import Practice
from nanoschool.types import Environment, Trajectory, UserError

Credit = list[list[float]]  # by attempt, one number a token


@dataclass(frozen=True)
class Sizes:
    """What is the same for every method."""

    problems: int = 16  # attempted
    samples: int = 8  # attempts at each: the group
    temperature: float = 1.0
    max_tokens: int = 96  # of a reply
    critic_steps: int = 10  # that a critic is fitted for, of as many attempts each


@dataclass(frozen=True)
class Bench:
    """Who is watched where, and the attempts that all methods are shown."""

    policy: Policy
    env: Environment
    sizes: Sizes
    seed: int
    attempts: Sequence[Trajectory]
    teacher: Policy | None = None  # for a method that needs one

    def learner(self, watched: Watched) -> Learner:
        worlds: dict[str, Any] = {}
        return Learner(watched, self.env, worlds, {}, {}, self.seed, "xray", progress=0.5)


def credited(bench: Bench, name: str) -> Credit:
    """The method's push on every token of every attempt; 0 where it pushes nothing. UserError: it cannot be asked."""
    kind = methods.load(name)
    if not issubclass(kind, Practice | Preference):
        raise UserError(f"method {name}: does not learn from attempts")
    method = sized(kind, bench.sizes)
    if issubclass(kind, Practice):
        if not kind.needs_teacher:
            method.check(bench.env)
        elif bench.teacher is None:
            raise UserError(f"method {name}: needs a teacher; name one by --teacher RUN:STAGE")
    watched = Watched(bench.policy)
    learner = bench.learner(watched)
    learner.reference = bench.policy.snapshot() if kind.needs_reference else None
    learner.teacher = bench.teacher
    method.begin(learner)
    if isinstance(method, PPO):
        for _ in range(bench.sizes.critic_steps):
            method.step(learner)
            learner.step += 1
        watched.others = 0
    shown = numbered(bench.attempts)
    if isinstance(method, Practice):
        method.credit(learner, shown)
    else:
        sized(OnlineDPO, bench.sizes).credit(learner, shown)
        shown = [t for t in shown if t.pair is not None]
    if shown:
        method.fit(learner, shown)
    if watched.others:
        raise UserError(f"method {name}: learns from other texts than the attempts as they are")
    return [watched.pushes.get(i, [0.0] * len(t.tokens)) for i, t in enumerate(bench.attempts)]


def sized(kind: type[Any], sizes: Sizes) -> Any:
    """The method with its own settings, but the sizes of all, one step a batch, and nothing replayed beside the attempts."""
    shared = {f.name: getattr(sizes, f.name) for f in fields(Sizes)} | {"replay": 0, "minibatches": 1}
    return kind(**{f.name: shared[f.name] for f in fields(kind) if f.name in shared})
