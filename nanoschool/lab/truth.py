"""truth: what each step of an attempt was truly worth, under the policy that took it and under perfect play.

V(s) of the policy is the mean reward of many rollouts forked from the very tokens of s, with its standard error; the value
of the end is the reward itself. A_k = V(s_{k+1}) − V(s_k) (2410.01679, section 4). V* is the oracle's, where there is one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nanoschool.core.policy import Policy
from nanoschool.methods.stepped import identity, state_at, steps_of
from nanoschool.rollout import State, alone, resume
from nanoschool.types import Environment, HasOpponent, HasOracle, Trajectory

Key = tuple[str, str, tuple[int, ...]]  # of a state, as `stepped.identity` gives it


@dataclass(frozen=True)
class Value:
    """The value of a state: a mean, its standard error, and the number of rollouts; an end is known without any."""

    mean: float
    error: float
    n: int


@dataclass(frozen=True)
class Step:
    """Tokens [first, past) of an attempt, and the values of the states before and after them."""

    first: int
    past: int
    before: Value
    after: Value
    perfect: float | None  # V*(after) − V*(before); None where nobody knows

    @property
    def advantage(self) -> float:
        return self.after.mean - self.before.mean

    @property
    def error(self) -> float:
        """Standard error of the advantage: rollouts from two states are drawn apart."""
        return (self.after.error**2 + self.before.error**2) ** 0.5


def states_of(policy: Policy, env: Environment, attempts: Sequence[Trajectory]) -> dict[Key, State]:
    """The distinct states that steps of these attempts start from."""
    states = [state_at(t, *at) for t in attempts for at in steps_of(policy.tokenizer, env, t)]
    return {identity(state): state for state in states}


def values(
    policy: Policy,
    env: Environment,
    states: Sequence[State],
    *,
    forks: int,
    temperature: float,
    max_tokens: int,
    seed: int,
) -> list[Value]:
    """V of each state by `forks` rollouts from it, whose draws follow from the seed and the state."""
    rewards: list[list[float]] = [[] for _ in states]
    for fork in resume(
        policy,
        env,
        states,
        samples=forks,
        temperature=temperature,
        max_tokens=max_tokens,
        seed=seed,
        play=alone(env, env.play),
    ):
        assert fork.rewards is not None, "a world that scores an attempt scores its forks"
        rewards[fork.group].append(fork.rewards)
    return [mean(found) for found in rewards]


def mean(rewards_N: Sequence[float]) -> Value:
    """Mean and standard error. Where all are alike one more that is not, off by 1, is allowed for: no error is 0."""
    n, total = len(rewards_N), sum(rewards_N)
    if min(rewards_N) == max(rewards_N):
        return Value(rewards_N[0], 1 / (n + 1), n)
    variance = sum((r - total / n) ** 2 for r in rewards_N) / (n - 1)
    return Value(total / n, (variance / n) ** 0.5, n)


def steps(policy: Policy, env: Environment, attempt: Trajectory, known: Mapping[Key, Value]) -> list[Step]:
    """The steps of a scored attempt, each with what it was worth. `known` holds the values of `states_of`."""
    assert attempt.rewards is not None, "only scored attempts have an end with a value"
    starts = steps_of(policy.tokenizer, env, attempt)
    states = [state_at(attempt, turn, at) for turn, at in starts]
    at_start = [known[identity(state)] for state in states]
    ends = [at for _, at in starts[1:]] + [len(attempt.tokens)]
    after = [*at_start[1:], Value(attempt.rewards, 0.0, 0)]
    perfect = _perfect(policy, env, attempt, states)
    return [
        Step(first, past, one, other, lost)
        for (_, first), past, one, other, lost in zip(starts, ends, at_start, after, perfect, strict=True)
    ]


def _perfect(
    policy: Policy, env: Environment, attempt: Trajectory, states: Sequence[State]
) -> Sequence[float | None]:
    """What each step lost for good. Other seats' replies are not in an attempt, so games have no oracle here."""
    if not isinstance(env, HasOracle) or isinstance(env, HasOpponent):
        return [None] * len(states)
    best = [env.oracle(s.task, s.replies, policy.tokenizer.decode(s.begun)).value for s in states]
    assert attempt.rewards is not None
    return [b - a for a, b in zip(best, [*best[1:], attempt.rewards], strict=True)]
