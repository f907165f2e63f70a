"""Stepped: credit by the value of the state that each step starts from; a method says where the values come from.

A step ends where the world says (`steps`), and with a reply: a world without steps has one step a reply. A boundary
inside a token is moved behind it, so that a state is whole tokens and can be forked.
"""

from codecs import getincrementaldecoder
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nanoschool.core.tokenizer import Tokenizer
from nanoschool.methods.base import Learner, require
from nanoschool.methods.surrogate import Surrogate
from nanoschool.rollout import State
from nanoschool.stepwise import step_advantages
from nanoschool.types import Environment, HasSteps, Trajectory


@dataclass(frozen=True)
class Stepped(Surrogate):
    judged: ClassVar[bool] = False  # its values are of the world's reward
    most_steps: int = 20  # of an attempt; what comes after belongs to the last one

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.most_steps >= 1, self, f"most_steps={self.most_steps} must be at least 1")

    def values(self, learner: Learner, states: Sequence[State]) -> list[float]:
        """V(s) of distinct states, as whole returns: what was earned before counts."""
        raise TypeError(f"{type(self).__name__} defines no values()")

    def worth(self, learner: Learner, trajectories: list[Trajectory]) -> Sequence[Sequence[float]]:
        env, tokenizer = learner.env, learner.policy.tokenizer
        assert env is not None, "the stage names a world"
        cut = [steps_of(tokenizer, env, t)[: self.most_steps] for t in trajectories]
        states = [
            [state_at(t, turn, at) for turn, at in mine] for t, mine in zip(trajectories, cut, strict=True)
        ]
        distinct = {
            identity(state): state for mine in states for state in mine
        }  # a group's first states are one
        value = dict(zip(distinct, self.values(learner, list(distinct.values())), strict=True))
        out = []
        for t, mine, at_states in zip(trajectories, cut, states, strict=True):
            assert t.rewards is not None, "only scored attempts are credited"
            steps = step_advantages([value[identity(state)] for state in at_states], t.rewards)
            out.append(spread(steps, [at for _, at in mine], len(t.tokens)))
        return out


def turns(mask: Sequence[bool]) -> list[tuple[int, int]]:
    """Where the policy's replies stand, [first, past the last) token; the i-th is of the i-th reply."""
    edges = [t for t in range(len(mask)) if mask[t] != (mask[t - 1] if t else False)]
    edges += [len(mask)] if mask and mask[-1] else []
    return list(zip(edges[::2], edges[1::2], strict=True))


def characters(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[int]:
    """How many characters of a reply's text are written after each of its tokens; marks write none."""
    decoder, marks, total, out = (
        getincrementaldecoder("utf-8")("replace"),
        set(tokenizer.special.values()),
        0,
        [],
    )
    for token in tokens:
        total += 0 if token in marks else len(decoder.decode(tokenizer.token_bytes(token)))
        out.append(total)
    return out


def steps_of(tokenizer: Tokenizer, env: Environment, t: Trajectory) -> list[tuple[int, int]]:
    """The first token of each step, as (number of the reply, index of the token)."""
    out = []
    for turn, (first, past) in enumerate(turns(t.mask)):
        written = characters(tokenizer, t.tokens[first:past])
        ends = env.steps(t.replies[turn]) if isinstance(env, HasSteps) else []
        behind = {
            next((i + 1 for i, n in enumerate(written) if n >= end), past - first) for end in ends if end
        }
        out += [(turn, first + at) for at in sorted({0} | {b for b in behind if b < past - first})]
    return out


def state_at(t: Trajectory, turn: int, at: int) -> State:
    """The state before token `at`, which is of the reply number `turn`."""
    assert t.task is not None, "what was practised has a task"
    first, _ = turns(t.mask)[turn]
    return State(t.task, tuple(t.replies[:turn]), tuple(t.tokens[first:at]), heard=tuple(t.tokens[:first]))


def identity(state: State) -> tuple[str, str, tuple[int, ...]]:
    return state.task.world, state.task.problem, state.heard + state.begun


def spread(steps: Sequence[float], starts: Sequence[int], length: int) -> list[float]:
    """Each step's advantage on all of its tokens."""
    out = [0.0] * length
    for advantage, start, past in zip(steps, starts, [*starts[1:], length], strict=True):
        out[start:past] = [advantage] * (past - start)
    return out
