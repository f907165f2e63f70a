"""sampling: the start model with more attempts at each test problem, at the cost of an arm's training, and no training.

k is what the training's FLOPs buy at each of the test's problems. Of the k attempts one is handed in, chosen without the
world's help: `vote`, the answer that most attempts gave (self-consistency, https://arxiv.org/abs/2203.11171), of equals the
one given first; `likeliest`, the attempt with the highest log-probability. The more problems are to be answered, the
fewer attempts the same FLOPs buy at each, while training is paid once: k belongs to this test's size, and is told.
"""

from collections import Counter
from collections.abc import Sequence

from nanoschool.core.policy import Policy
from nanoschool.evals.measure import answers
from nanoschool.lab.comparison import Comparison
from nanoschool.methods.majority import answer
from nanoschool.rollout import stable_hash
from nanoschool.types import Environment, Trajectory

AT_ONCE = 64  # attempts at one problem in the engine together
RULES = ("vote", "likeliest")


def bought(flops: float, attempt_flops: float, problems: int) -> int:
    """How many attempts at each problem so many FLOPs buy, at least one."""
    return max(1, int(flops / (attempt_flops * problems)))


def sample_more(
    policy: Policy, env: Environment, comparison: Comparison, way: str, attempts: int, seed: int
) -> dict[str, list[float]]:
    """{rule: the reward of what it hands in, for each test problem}."""
    c = comparison
    tasks = env.tasks("test", c.problems)
    every: list[list[Trajectory]] = [[] for _ in tasks]
    for first in range(0, attempts, AT_ONCE):
        some = answers(
            policy,
            env,
            tasks,
            way,
            samples=min(AT_ONCE, attempts - first),
            temperature=1.0,
            max_tokens=c.max_tokens,
            seed=stable_hash(f"{seed}/sampling/{first}"),
        )
        for trajectory in some:
            every[trajectory.group].append(trajectory)
    return {
        "vote": [float(vote(group).rewards or 0.0) for group in every],
        "likeliest": [float(likeliest(group).rewards or 0.0) for group in every],
    }


def vote(group: Sequence[Trajectory]) -> Trajectory:
    """The first attempt that gave the commonest answer; the first of all where none gave any."""
    said = [answer(trajectory) for trajectory in group]
    votes = Counter(one for one in said if one is not None)
    if not votes:
        return group[0]
    return group[said.index(max(votes, key=lambda one: votes[one]))]  # of equals the one that was given first


def likeliest(group: Sequence[Trajectory]) -> Trajectory:
    """The attempt that the policy itself finds likeliest as a whole."""
    return max(group, key=lambda t: sum(t.logprobs))
