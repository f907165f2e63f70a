"""choices: what a policy does where it may answer, ask a tool or say that it does not know, beside what would pay best."""

from collections.abc import Iterable, Mapping, Sequence

from nanoschool.core.policy import Policy
from nanoschool.evals.stats import bounded_mean, mean_interval, proportion
from nanoschool.probe import knows
from nanoschool.types import HasUnknowns, Task, Trajectory

SORTED_BY = ("kind", "level", "exposure")  # of an outcome's info


def right_alone(policy: Policy, world: HasUnknowns, tasks: Sequence[Task], seed: int) -> list[float]:
    """For each task, the probability that the policy is right about it without help."""
    known = knows(policy, world, tasks, seed)
    return [known[world.knowledge(task)] for task in tasks]


def did(attempts: Iterable[Trajectory]) -> list[str]:
    """What each attempt did: its act, where an answer without help is "right" or "wrong"."""
    return [
        ("right" if attempt.info["correct"] else "wrong")
        if attempt.info["act"] == "answer"
        else attempt.info["act"]
        for attempt in attempts
    ]


def choices(
    world: HasUnknowns, tasks: Sequence[Task], attempts: Sequence[Trajectory], p: Sequence[float]
) -> dict:
    """The mean regret, how much is known, and the share of each act by whatever the world sorts its tasks by.

    Regret is what the acts lose against the best act for one who is right with the probabilities `p` that the policy
    itself has without help: a call pays where 1 - p exceeds its cost.
    """
    acts = did(attempts)
    lost = [
        world.regret(task, right, attempt.info["act"])
        for task, attempt, right in zip(tasks, attempts, p, strict=True)
    ]
    out = {"regret": _mean(lost), "knows": _mean(p, 0.0, 1.0)}
    for by in SORTED_BY:
        if all(by in attempt.info for attempt in attempts):
            out[f"acts_by_{by}"] = shares(acts, [str(attempt.info[by]) for attempt in attempts])
    return out


def _mean(values: Sequence[float], *ends: float) -> dict:
    """With its interval; without one where all are alike and no `ends` say what another could have been."""
    if len(set(values)) > 1:
        return mean_interval(values).to_json()
    return bounded_mean(values, *ends).to_json() if ends else {"mean": values[0], "n": len(values)}


def by_knowledge(acts: Sequence[str], p: Sequence[float]) -> dict[str, dict]:
    """The share of each act where one was right without help more often than not, and where one was not."""
    return shares(acts, ["known" if right > 0.5 else "unknown" for right in p])


def shares(acts: Sequence[str], groups: Sequence[str]) -> dict[str, dict]:
    """{group: {act: its share with interval and n}}, for the acts that occurred in any group."""
    found: Mapping[str, list[str]] = {group: [] for group in sorted(set(groups), key=_in_order)}
    for act, group in zip(acts, groups, strict=True):
        found[group].append(act)
    occurred = sorted(set(acts))
    return {
        group: {act: proportion(some.count(act), len(some)).to_json() for act in occurred}
        for group, some in found.items()
    }


def _in_order(group: str) -> tuple[int, str]:
    return (int(group), "") if group.isdecimal() else (-1, group)
