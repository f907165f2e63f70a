"""format_reward: a control: an attempt is paid for its form, right or wrong (Spurious Rewards, 2506.10947, section 2).

What it gains is what knowing the answer's form is worth. The form is the world's own `wellformed`, and an answer that was
cut off has none. What we changed from the paper: RLOO in GRPO's place; the paper's form is a \\boxed{} anywhere.
"""

from dataclasses import dataclass

from nanoschool.methods.base import Learner, require
from nanoschool.methods.proxy import Proxy
from nanoschool.rollout import alone
from nanoschool.types import Environment, Outcome, Reply, Trajectory, UserError

MOST_TURNS = 1000  # after which an episode is taken for endless


@dataclass(frozen=True)
class FormatReward(Proxy):
    def check(self, env: Environment) -> None:
        super().check(env)
        says = "wellformed" in silence(env).info
        require(
            says,
            self,
            f"world {env.name!r} does not say which replies have the right form; practise in another",
        )

    def paid(self, learner: Learner, trajectories: list[Trajectory]) -> list[float]:
        return [float(wellformed(t)) for t in trajectories]


def silence(env: Environment) -> Outcome:
    """How an episode ends for one who says nothing. Raises UserError where it does not end."""
    episode = alone(env, env.play)(env.tasks("train", 1)[0])
    try:
        next(episode)
        for _ in range(MOST_TURNS):
            episode.send(Reply(""))
    except StopIteration as end:
        return end.value
    raise UserError(
        f"world {env.name!r} still asks after {MOST_TURNS} empty replies; end its `play` with an Outcome"
    )


def wellformed(trajectory: Trajectory) -> bool:
    return bool(trajectory.info.get("wellformed")) and trajectory.stop_reason != "length"


METHOD = FormatReward
