"""choices: what a policy does where it may answer, ask a tool or say that it does not know, beside what would pay best."""

from collections.abc import Sequence

from nanoschool.core.policy import Policy
from nanoschool.evals.stats import mean_interval, proportion
from nanoschool.probe import knows
from nanoschool.types import HasUnknowns, Task, Trajectory


def choices(
    policy: Policy, world: HasUnknowns, tasks: Sequence[Task], attempts: Sequence[Trajectory], seed: int
) -> dict:
    """The share of each act, by the task's kind or level where it has one; hallucinations; and the mean regret.

    Regret is what the acts lose against the best act for one who is right with the probability that the policy itself
    has, asked the same questions without help: a call pays where 1 - p exceeds its cost.
    """
    p = knows(policy, world, tasks, seed)
    groups: dict[str, list[Trajectory]] = {}
    lost = []
    for task, attempt in zip(tasks, attempts, strict=True):
        group = str(attempt.info.get("kind", attempt.info.get("level", "all")))
        groups.setdefault(group, []).append(attempt)
        lost.append(world.regret(task, p[world.knowledge(task)], attempt.info["act"]))
    return {
        "regret": mean_interval(lost).to_json(),
        "knows": mean_interval([p[world.knowledge(task)] for task in tasks]).to_json(),
        "acts": {group: _shares(some) for group, some in sorted(groups.items())},
    }


def _shares(attempts: Sequence[Trajectory]) -> dict:
    """The share of each act that occurred, and of answers that were made up."""
    n = len(attempts)
    acts = sorted({attempt.info["act"] for attempt in attempts})
    shares = {act: proportion(sum(a.info["act"] == act for a in attempts), n).to_json() for act in acts}
    made_up = sum(a.info["act"] == "answer" and not a.info["correct"] for a in attempts)
    return shares | {"wrong answer": proportion(made_up, n).to_json()}
