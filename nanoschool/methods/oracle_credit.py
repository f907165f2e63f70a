"""oracle_credit: a control, each step's advantage under perfect play, from V* of the world's oracle (after 2410.01679).

A_k = V*(s_{k+1}) − V*(s_k), the reward at the end: what a step threw away for good. Not the advantage under the policy that
learns, which `process_credit` estimates: a wrong step that can still be mended costs nothing here. Before it is whitened it
is never above 0, except by luck. The oracle is outside the ledger: the world knows, and nothing is sampled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nanoschool.methods.base import Learner, require
from nanoschool.methods.stepped import Stepped
from nanoschool.rollout import State
from nanoschool.types import Environment, HasOpponent, HasOracle


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

    def values(self, learner: Learner, states: Sequence[State]) -> list[float]:
        env, tokenizer = learner.env, learner.policy.tokenizer
        assert isinstance(env, HasOracle), "check() asks for it"
        return [env.oracle(s.task, s.replies, tokenizer.decode(s.begun)).value for s in states]


METHOD = OracleCredit
