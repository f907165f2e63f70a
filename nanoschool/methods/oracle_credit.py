"""oracle_credit: a control, each step's advantage under perfect play, from V* of the world's oracle (after 2410.01679).

A_k = V*(s_{k+1}) − V*(s_k), the reward at the end: what a step threw away for good. Not the advantage under the policy that
learns, which `process_credit` estimates: a wrong step that can still be mended costs nothing here. Before it is whitened it
is never above 0, except by luck. The oracle is outside the ledger: the world knows, and nothing is sampled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from nanoschool import bits
from nanoschool.methods.base import Learner, require
from nanoschool.methods.stepped import Stepped
from nanoschool.rollout import State
from nanoschool.types import Environment, HasOpponent, HasOracle, Trajectory


@dataclass(frozen=True)
class OracleCredit(Stepped):
    learns_from: ClassVar[tuple[type, ...]] = (HasOracle,)

    def check(self, env: Environment) -> None:
        super().check(env)
        alone = not isinstance(env, HasOpponent)
        require(
            alone,
            self,
            f"world {env.name!r} has other seats, whose replies its oracle needs; practise in another",
        )

    def offered(self, learner: Learner, trajectories: list[Trajectory]) -> float:
        """Of the course of each attempt's credit, predicted by the shares of its group."""
        told = [None if t.rewards is None else course(t) for t in trajectories]
        return bits.of_groups([t.group for t in trajectories], told)

    def values(self, learner: Learner, states: Sequence[State]) -> list[float]:
        env, tokenizer = learner.env, learner.policy.tokenizer
        assert isinstance(env, HasOracle), "check() asks for it"
        return [env.oracle(s.task, s.replies, tokenizer.decode(s.begun)).value for s in states]


def course(t: Trajectory) -> tuple[float, ...]:
    """The credit from step to step, whatever the number of tokens that share it."""
    sampled = (w for w, m in zip(t.weights, t.mask, strict=True) if m)
    return tuple(round(weight, 6) for weight, _ in groupby(sampled))


METHOD = OracleCredit
