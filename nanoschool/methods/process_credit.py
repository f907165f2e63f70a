"""process_credit: VinePPO, the value of each step's start by fresh rollouts forked inside the reply (2410.01679).

A_k = V̂(s_{k+1}) − V̂(s_k) (section 4), V̂(s) the mean reward of `forks` rollouts, and the reward itself at the end; all
tokens of a step share it. The extra rollouts are used for values only, and billed in an account of their own, `values`.
What we changed from the paper: they are drawn at the temperature of practice and not at 0.6 with top-p 0.9, so V̂ is of
the policy that learns; states that several attempts pass through are valued once; one on-policy step a batch and no KL term;
what comes after `most_steps` steps is one step, where the authors' code gives it no advantage.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nanoschool import bits
from nanoschool.methods.base import Learner, require
from nanoschool.methods.stepped import Stepped
from nanoschool.rollout import State, alone, resume
from nanoschool.types import Environment, UserError


@dataclass(frozen=True)
class ProcessCredit(Stepped):
    problems: int = 6  # values cost more than attempts do
    samples: int = 8
    forks: int = 9  # K, rollouts a state

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.forks >= 1, self, f"forks={self.forks} must be at least 1")

    def check(self, env: Environment) -> None:
        super().check(env)
        require(
            env.replayable, self, f"world {env.name!r} cannot be replayed, so not forked; practise in another"
        )

    def values(self, learner: Learner, states: Sequence[State]) -> list[float]:
        assert learner.env is not None, "the stage names a world"
        rewards: list[list[float]] = [[] for _ in states]
        with learner.policy.ledger.account("values"):
            for fork in resume(
                learner.policy,
                learner.env,
                states,
                samples=self.forks,
                temperature=self.temperature,
                max_tokens=self.max_tokens,
                seed=learner.draw_seed("values"),
                play=alone(learner.env, learner.env.play),
            ):
                if fork.rewards is None:
                    raise UserError(
                        f"world {learner.env.name!r} scored an attempt and not its forks; it must do both"
                    )
                rewards[fork.group].append(fork.rewards)
            learner.policy.ledger.charge(bits=sum(len(some) * bits.entropy(some) for some in rewards))
        return [some[0] if min(some) == max(some) else sum(some) / len(some) for some in rewards]


METHOD = ProcessCredit
