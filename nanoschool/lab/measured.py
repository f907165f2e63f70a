"""measured: what is measured of an arm's best weights on the test, and of the start, with every problem's own score."""

from collections.abc import Mapping, Sequence
from typing import Any

from nanoschool.core.policy import Policy
from nanoschool.evals.distance import distance
from nanoschool.evals.measure import answers, rewards, ways
from nanoschool.lab.comparison import Comparison
from nanoschool.lab.sampling import AT_ONCE
from nanoschool.types import Environment

FAR = 4  # samples of each problem that the distance from the start is taken on
CHAT = "chat"
RIGHT = 1.0  # the reward from which an attempt counts as right

Worlds = Mapping[str, Environment]


def measure(
    policy: Policy, start: Policy, worlds: Worlds, evaluated: Sequence[str], comparison: Comparison
) -> dict[str, Any]:
    """Of a trained policy, in chat: greedy rewards, right attempts of each problem, distance, rewards elsewhere."""
    c = comparison
    found = _of_world(policy, worlds[c.env], CHAT, c)
    sampled = found.pop("sampled")
    near = [t for i, t in enumerate(sampled) if i % c.attempts < FAR]
    return found | {
        "distance": distance(policy, start, near),
        "elsewhere": {
            name: _rewards(policy, worlds[name], CHAT, c.elsewhere, c) for name in evaluated if name != c.env
        },
    }


def measure_start(
    policy: Policy, worlds: Worlds, evaluated: Sequence[str], comparison: Comparison, converses: bool
) -> dict[str, Any]:
    """Of the start, asked in the way that dev says it answers best, for the trained are to be held against that.

    Elsewhere it is asked in chat, as the trained are, so that what is forgotten is no other way of asking; in the best way
    where it has only read, and answers nothing in chat. `attempt_flops` is what one sampled attempt at a test problem costs.
    """
    c = comparison
    elsewhere = [name for name in evaluated if name != c.env]
    best = {c.env: best_way(policy, worlds[c.env], c)}
    best |= {name: CHAT if converses else best_way(policy, worlds[name], c) for name in elsewhere}
    found = _of_world(policy, worlds[c.env], best[c.env], c)
    del found["sampled"]
    if best[c.env] != CHAT:  # as the trained are asked: what they gain by it may be a way of answering
        found["chat"] = _rewards(policy, worlds[c.env], CHAT, c.problems, c)
    return found | {
        "way": best[c.env],
        "attempt_flops": _price(policy, worlds[c.env], best[c.env], c),
        "elsewhere": {name: _rewards(policy, worlds[name], best[name], c.elsewhere, c) for name in elsewhere},
    }


def _price(policy: Policy, env: Environment, way: str, comparison: Comparison) -> float:
    """FLOPs of an attempt, where as many share a prompt as when more are sampled."""
    c, before = comparison, policy.ledger.total("price").flops
    tasks = env.tasks("test", c.problems)[: c.pass_problems]
    with policy.ledger.account("price"):
        sampled = answers(policy, env, tasks, way, samples=AT_ONCE, temperature=1.0, max_tokens=c.max_tokens)
    return (policy.ledger.total("price").flops - before) / len(sampled)


def best_way(policy: Policy, env: Environment, comparison: Comparison) -> str:
    """Of the ways that a world can be put, the one with the best score on dev; of equals the first, chat."""
    tasks = env.tasks("dev", comparison.dev)

    def score(way: str) -> float:
        return sum(rewards(answers(policy, env, tasks, way, max_tokens=comparison.max_tokens)))

    there = ways(env)
    return there[0] if len(there) == 1 else max(there, key=score)


def _of_world(policy: Policy, env: Environment, way: str, comparison: Comparison) -> dict[str, Any]:
    c = comparison
    tasks = env.tasks("test", c.problems)
    greedy = rewards(answers(policy, env, tasks, way, max_tokens=c.max_tokens))
    with policy.ledger.account("attempts"):
        sampled = answers(
            policy,
            env,
            tasks[: c.pass_problems],
            way,
            samples=c.attempts,
            temperature=1.0,
            max_tokens=c.max_tokens,
        )
    paid = rewards(sampled)
    right = [
        sum(reward >= RIGHT for reward in paid[first : first + c.attempts])
        for first in range(0, len(paid), c.attempts)
    ]
    return {"rewards": greedy, "right": right, "sampled": sampled}


def _rewards(policy: Policy, env: Environment, way: str, count: int, comparison: Comparison) -> list[float]:
    tasks = env.tasks("test", count)
    return rewards(answers(policy, env, tasks, way, max_tokens=comparison.max_tokens))
