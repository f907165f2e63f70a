"""step_reward: the good prefix is rewarded and the rest punished, from the first wrong step on (after VPPO, 2601.18984).

Tokens before the step that the world's oracle calls the first wrong one are worth +1, those from it on −1, an attempt
without one +1 throughout; then all are whitened over the batch. An attempt that stops short with every step right is
punished on its last token. What we changed from the paper: the world knows the first wrong step, where a trained judge
finds it there; every step of the prefix is rewarded, right attempts by the same rule; the outcome counts only as said.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nanoschool import bits
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.methods.base import Learner, require
from nanoschool.methods.stepped import characters, steps_of, turns
from nanoschool.methods.surrogate import Surrogate
from nanoschool.types import Environment, HasOpponent, HasOracle, HasSteps, Trajectory


@dataclass(frozen=True)
class StepReward(Surrogate):
    judged: ClassVar[bool] = False  # the world says which step is wrong
    learns_from: ClassVar[tuple[type, ...]] = (HasOracle, HasSteps)

    def check(self, env: Environment) -> None:
        super().check(env)
        alone = not isinstance(env, HasOpponent)
        require(
            alone,
            self,
            f"world {env.name!r} has other seats, whose replies its oracle needs; practise in another",
        )

    def offered(self, learner: Learner, trajectories: list[Trajectory]) -> float:
        """Of the number of good steps, as far as the first wrong one, predicted by the shares of its group."""
        env, tokenizer = learner.env, learner.policy.tokenizer
        assert env is not None, "the stage names a world"
        told = [None if t.rewards is None else good_steps(tokenizer, env, t) for t in trajectories]
        return bits.of_groups([t.group for t in trajectories], told)

    def worth(self, learner: Learner, trajectories: list[Trajectory]) -> Sequence[Sequence[float]]:
        out = []
        for t in trajectories:
            wrong = self.first_wrong(learner, t)
            out.append([1.0 if at < wrong else -1.0 for at in range(len(t.tokens))])
        return out

    def first_wrong(self, learner: Learner, t: Trajectory) -> int:
        """The first token of what is wrong; past the end if nothing is."""
        assert isinstance(learner.env, HasOracle), "check() asks for it"
        return first_wrong_token(learner.policy.tokenizer, learner.env, t)


def first_wrong_token(tokenizer: Tokenizer, env: HasOracle, t: Trajectory) -> int:
    """The token that the first wrong step begins with, or that writes its first character; past the end if none is."""
    assert t.task is not None and t.rewards is not None, "a scored attempt at a task"
    last = 0
    for turn, (first, past) in enumerate(turns(t.mask)):
        last = past - 1
        error = env.oracle(t.task, t.replies[:turn], t.replies[turn]).first_error
        if error is not None:
            written = characters(tokenizer, t.tokens[first:past])
            return first + next((i for i, n in enumerate(written) if n > error), past - first - 1)
    short = t.stop_reason == "end" and t.rewards < env.oracle(t.task, (), "").value
    return last if short else len(t.tokens)


def good_steps(tokenizer: Tokenizer, env: Environment, t: Trajectory) -> int:
    """How many steps begin before the first wrong one; those of the reply, and one more, where none is wrong."""
    assert isinstance(env, HasOracle), "check() asks for it"
    starts, wrong = steps_of(tokenizer, env, t), first_wrong_token(tokenizer, env, t)
    return sum(at < wrong for _, at in starts) + (wrong >= len(t.tokens))


METHOD = StepReward
