"""format_reward: a control: an attempt is paid for its form, right or wrong (Spurious Rewards, 2506.10947, section 2).

What it gains is what knowing the answer's form is worth. The form is the world's own `wellformed`, and an answer that was
cut off has none. What we changed from the paper: RLOO in GRPO's place; the paper's form is a \\boxed{} anywhere.
"""

from dataclasses import dataclass

from nanoschool.methods.base import Learner
from nanoschool.methods.proxy import Proxy
from nanoschool.types import Trajectory, UserError


@dataclass(frozen=True)
class FormatReward(Proxy):
    def paid(self, learner: Learner, trajectories: list[Trajectory]) -> list[float]:
        if not any("wellformed" in t.info for t in trajectories):
            assert learner.env is not None, "the stage names a world"
            raise UserError(
                f"method format_reward: world {learner.env.name!r} does not say which replies have the right form; "
                "give its outcomes info['wellformed'], or practise in another"
            )
        return [float(wellformed(t)) for t in trajectories]


def wellformed(trajectory: Trajectory) -> bool:
    return bool(trajectory.info.get("wellformed")) and trajectory.stop_reason != "length"


METHOD = FormatReward
