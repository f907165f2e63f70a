"""to_openenv: any world of ours as an OpenEnv environment, and as a server (https://github.com/meta-pytorch/OpenEnv).

An action is {"text": reply}, an observation {"text": what the world says, "done", "reward"}. `reset(seed=n)` takes the
n-th task of the split, so the same seed is the same episode.

    uvicorn.run(app(load("chain")), port=8000)      # then: nanoschool … --env openenv:http://localhost:8000
"""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from nanoschool.envs.adapters import package
from nanoschool.envs.adapters.walk import Opponent, Walk
from nanoschool.types import Environment


def environment(
    world: Environment,
    split: str = "train",
    count: int = 1000,
    seed: int = 0,
    opponents: Mapping[int, Opponent] | None = None,
) -> tuple[type, type, type]:
    """(environment, action, observation): the classes that OpenEnv's `create_app` takes, over `count` tasks of a split."""
    server = package("openenv.core.env_server.interfaces", "openenv")
    types = package("openenv.core.env_server.types", "openenv")
    tasks = world.tasks(split, count, seed)
    action = type("Say", (types.Action,), {"__annotations__": {"text": str}})
    observation = type("Heard", (types.Observation,), {"__annotations__": {"text": str}})

    def heard(walk: Walk, paid: float) -> Any:
        done = walk.outcome is not None
        return observation(text=walk.said, done=done, reward=walk.reward - paid, metadata=walk.info())

    class NanoschoolEnvironment(server.Environment):
        SUPPORTS_CONCURRENT_SESSIONS = True

        def __init__(self) -> None:
            super().__init__()
            self._count, self._state = 0, types.State()

        def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> Any:
            at = self._count if seed is None else seed
            self._count += 1
            self._walk = Walk(world, tasks[at % len(tasks)], opponents)
            self._state = types.State(episode_id=episode_id or uuid4().hex, step_count=0)
            return heard(self._walk, 0.0)

        def step(self, action: Any, timeout_s: float | None = None, **_: Any) -> Any:
            paid = self._walk.reward
            self._walk.say(action.text)
            self._state.step_count += 1
            return heard(self._walk, paid)

        @property
        def state(self) -> Any:
            return self._state

    return NanoschoolEnvironment, action, observation


def app(world: Environment, sessions: int = 64, **settings: Any) -> Any:
    """A FastAPI application that serves `world` to `sessions` clients at once; `settings` are those of `environment`."""
    served, action, observation = environment(world, **settings)
    server = package("openenv.core.env_server.http_server", "openenv")
    return server.create_fastapi_app(served, action, observation, max_concurrent_envs=sessions)
