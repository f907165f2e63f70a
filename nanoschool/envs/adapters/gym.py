"""gym: Gymnasium environments that talk, `gym:FrozenLake-v1` or `gym:module:ID` (Towers et al. 2024, 2407.17032).

An action space of text takes the reply as it stands; one of n actions takes a number, and a reply that is none costs a
turn. An observation that is text is said; else what the environment renders as text ("ansi"); else a number or a few.
Rewards are the environment's own, with its own bounds. A task is a seed.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from nanoschool.envs.adapters import package
from nanoschool.envs.common import draw, leading_number, require
from nanoschool.types import Ask, Episode, Outcome, Task, UserError

MARKED = re.compile(r"\x1b\[[0-9;]{1,9}m([^\x1b]{1,99})\x1b\[0m")
COLOUR = re.compile(r"\x1b\[[0-9;]{0,9}m")


@dataclass(frozen=True)
class Gymnasium:
    """One environment. `settings` go to `gymnasium.make`; `turns` ends an episode that does not end."""

    id: str
    settings: dict[str, Any] = field(default_factory=dict)
    turns: int = 100

    def __post_init__(self) -> None:
        self._open().close()  # what cannot be played is said here

    @property
    def name(self) -> str:
        return f"gym:{self.id}"

    @property
    def replayable(self) -> bool:
        """What the environment says of itself."""
        return not package("gymnasium", "gymnasium").spec(self.id).nondeterministic

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, self._task, split, count, seed)

    def play(self, task: Task) -> Episode:
        env = self._open()
        try:
            seen, _ = env.reset(seed=task.data["seed"])
            said, pay = f"{_told(env, seen)}\n{_invitation(env)}", 0.0
            for _ in range(self.turns):
                reply = yield Ask(said, reward=pay)
                action = _action(env, reply.text)
                if action is None:
                    said, pay = _invitation(env), 0.0
                    continue
                seen, pay, terminated, truncated, _ = env.step(action)
                said, pay = _told(env, seen), _finite(self.name, pay)
                if terminated or truncated:
                    return Outcome((pay,), info={"truncated": bool(truncated), "last": said})
            return Outcome((pay,), info={"truncated": True, "last": said})
        finally:
            env.close()

    def _task(self, rng: Random) -> Task:
        seed = rng.randrange(1 << 31)
        return Task(self.name, f"{self.name} {seed}", {"seed": seed})

    def _open(self) -> Any:
        gym = package("gymnasium", "gymnasium")
        try:
            env = gym.make(self.id, **self.settings)
            if "ansi" in env.metadata.get("render_modes", ()) and "render_mode" not in self.settings:
                env.close()
                env = gym.make(self.id, render_mode="ansi", **self.settings)
        except Exception as error:  # unknown id, a missing dependency, a wrong setting: theirs says which
            raise UserError(f"world {self.name}: {str(error).partition(chr(10))[0]} (Gymnasium)") from None
        spaces = gym.spaces
        require(
            isinstance(env.action_space, spaces.Discrete | spaces.Text),
            self.name,
            f"acts by {env.action_space}, and a reply can only be a text or the number of an action; wrap it",
        )
        told = env.render_mode == "ansi" or isinstance(
            env.observation_space, spaces.Text | spaces.Discrete | spaces.Tuple | spaces.MultiDiscrete
        )
        require(
            told, self.name, f"shows {env.observation_space}, which is no text; wrap it, or render it as ansi"
        )
        return env


def world(id: str) -> Gymnasium:
    """The world of a Gymnasium id. Raises UserError for an unknown one, and one that cannot be put in words."""
    return Gymnasium(id)


def _told(env: Any, seen: Any) -> str:
    """What a turn shows, in words; what colours would mark stands in [ ]."""
    if isinstance(seen, str):
        return seen
    text = env.render() if env.render_mode == "ansi" else str(_plain(seen))
    return COLOUR.sub("", MARKED.sub(r"[\1]", text)).strip("\n")


def _plain(seen: Any) -> Any:
    """Numbers without numpy's names for them."""
    if isinstance(seen, tuple):
        return tuple(_plain(one) for one in seen)
    return seen.tolist() if hasattr(seen, "tolist") else seen


def _invitation(env: Any) -> str:
    space = env.action_space
    return f"Action {space.start} to {space.start + space.n - 1}?" if hasattr(space, "n") else "Action?"


def _action(env: Any, reply: str) -> Any:
    """The action that a reply is; None where it is none."""
    action = leading_number(reply) if hasattr(env.action_space, "n") else reply[: env.action_space.max_length]
    return action if action is not None and env.action_space.contains(action) else None


def _finite(world: str, reward: Any) -> float:
    value = float(reward)
    require(math.isfinite(value), world, f"gave a reward of {value}; mend the environment")
    return value
