"""majority: a control without answers: an attempt is paid for agreeing with most of its group (TTRL, 2504.16084).

It sharpens what the policy says most often, so it gains where that is right and loses where it is not. The answer is what
stands after the last `####` of the last reply, or all of that reply; a reply that the world calls malformed gives none.
What we changed from the paper: it votes on train problems, whose answers it does not read, not on those of the test; all
attempts are trained on, not half; RLOO in GRPO's place.
"""

from dataclasses import dataclass

from nanoschool.credit import agreement
from nanoschool.methods.base import Learner
from nanoschool.methods.proxy import Proxy
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class Majority(Proxy):
    def offered(self, learner: Learner, trajectories: list[Trajectory]) -> float:
        """Nobody tells it anything: what it pays follows from its own attempts."""
        return 0.0

    def paid(self, learner: Learner, trajectories: list[Trajectory]) -> list[float]:
        groups: dict[int, list[int]] = {}
        for i, trajectory in enumerate(trajectories):
            groups.setdefault(trajectory.group, []).append(i)
        paid = [0.0] * len(trajectories)
        for members in groups.values():
            for i, wage in zip(members, agreement([answer(trajectories[i]) for i in members]), strict=True):
                paid[i] = wage
        return paid


def answer(trajectory: Trajectory) -> str | None:
    """What the attempt votes for; None where there is no answer to be read."""
    if trajectory.stop_reason == "length" or not trajectory.info.get("wellformed", True):
        return None
    return trajectory.replies[-1].rpartition("####")[2].strip()


METHOD = Majority
