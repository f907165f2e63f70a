"""probe: what a policy knows without help, found out by asking it, as Llama 3 was asked (2407.21783, section 4.3.6).

What we changed: the answers are graded by the world and not by a judge, and a share of right ones is kept, not a verdict.
"""

from collections.abc import Sequence

from nanoschool.core.policy import Policy
from nanoschool.rollout import rollout
from nanoschool.types import HasUnknowns, Task

ATTEMPTS = 4  # at each question, at temperature 1


def knows(policy: Policy, world: HasUnknowns, tasks: Sequence[Task], seed: int) -> dict[str, float]:
    """{what one must know: the probability that the policy is right about it}, for all that `tasks` ask."""
    right: dict[str, list[bool]] = {}
    for attempt in rollout(policy, world, tasks, samples=ATTEMPTS, seed=seed, play=world.probe):
        assert attempt.task is not None
        right.setdefault(world.knowledge(attempt.task), []).append(bool(attempt.info["correct"]))
    return {what: sum(some) / len(some) for what, some in right.items()}
