"""to_vf: any world of ours as a verifiers v1 taskset, and the environment that plays its later turns.

A task's reward comes from playing the world again with what the assistant said, so it needs no state beside the trace; an
episode that was cut off is worth what it had earned. In a module of yours, which `eval` of verifiers then takes by name:

    MyTaskset, MyEnv = taskset(load("desk"))
    __all__ = ["MyTaskset", "MyEnv"]
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nanoschool.envs.adapters import package
from nanoschool.envs.adapters.walk import Opponent, Walk
from nanoschool.envs.common import require
from nanoschool.types import Environment


def taskset(
    world: Environment,
    split: str = "test",
    count: int = 200,
    seed: int = 0,
    opponents: Mapping[int, Opponent] | None = None,
) -> tuple[type, type]:
    """(taskset, environment): the classes that verifiers loads, over `count` tasks of a split."""
    require(world.replayable, world.name, "cannot be replayed, and verifiers' tasks are scored by replaying")
    vf = package("verifiers.v1", "verifiers")
    tasks = world.tasks(split, count, seed)

    def replay(index: int, replies: Sequence[str]) -> Walk:
        walk = Walk(world, tasks[index], opponents)
        for reply in replies:
            if walk.outcome is None:
                walk.say(reply)
        return walk

    class Data(vf.TaskData):
        number: int  # of the task, among those of the split

    class NanoschoolTask(vf.Task[Data, vf.State, vf.TaskConfig]):
        @vf.reward
        async def outcome(self, trace: Any) -> float:
            said = [message.content or "" for message in trace.assistant_messages]
            return replay(self.data.number, said).reward

    class NanoschoolTaskset(vf.Taskset[NanoschoolTask, vf.TasksetConfig]):
        def load(self) -> Iterator[Any]:
            for at, task in enumerate(tasks):
                prompt = Walk(world, task, opponents).said
                yield NanoschoolTask(
                    Data(number=at, name=f"{world.name} {at}", prompt=prompt), self.config.task
                )

    class Config(vf.EnvConfig):
        player: vf.AgentConfig = vf.AgentConfig()

    class NanoschoolEnv(vf.Env[Config]):
        async def run(self, task: Any, agents: Any) -> None:
            async with agents.player.interaction(task) as conversation:
                said: list[str] = []
                segment = await conversation.turn()
                while not segment.terminated:
                    said.append(segment.last_reply)
                    walk = replay(task.data.number, said)
                    if walk.outcome is not None:
                        break
                    segment = await conversation.turn(walk.said)

    return NanoschoolTaskset, NanoschoolEnv
