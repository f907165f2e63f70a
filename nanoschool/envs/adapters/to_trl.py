"""to_trl: any world of ours as an `environment_factory` of TRL's GRPOTrainer (https://huggingface.co/docs/trl).

TRL's model acts by calling tools, so a reply is the argument of one: `reply(text)`. The trainer gets the class and the rows:

    GRPOTrainer(..., environment_factory=environment(world), train_dataset=Dataset.from_list(rows(200)))
"""

from collections.abc import Mapping
from typing import Any

from nanoschool.envs.adapters.walk import Opponent, Walk
from nanoschool.types import Environment


def rows(count: int) -> list[dict[str, Any]]:
    """A data set's rows: a prompt that `reset` completes, and the number of the task, so that a group has the same."""
    return [{"prompt": [{"role": "user", "content": ""}], "task": at} for at in range(count)]


def environment(
    world: Environment,
    split: str = "train",
    count: int = 1000,
    seed: int = 0,
    opponents: Mapping[int, Opponent] | None = None,
) -> type:
    """A class whose objects are episodes of `world`, over `count` tasks of a split; TRL makes and resets them."""
    tasks = world.tasks(split, count, seed)

    class NanoschoolEnvironment:
        def reset(self, task: int = 0, **_: Any) -> str:
            self._walk = Walk(world, tasks[task % len(tasks)], opponents)
            return self._walk.said

        def reply(self, text: str) -> str:
            """
            Give your reply to what was said last.

            Args:
                text: The whole reply, as it is to be read.

            Returns:
                What is said to it, or that the episode is over.
            """
            if self._walk.outcome is None:
                self._walk.say(text)
            return self._walk.said if self._walk.outcome is None else "The episode is over."

        def get_reward(self) -> float:
            return self._walk.reward

    return NanoschoolEnvironment
