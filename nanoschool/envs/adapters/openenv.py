"""openenv: any OpenEnv server as a world, `openenv:http://localhost:8000`, through its generic client.

The server tells the form of its actions and observations at /schema. The reply goes into the action's one field of text;
what is said is the observation's one field of text, else all of it as JSON. A task is the seed that `reset` is given;
whether the server keeps to it is not ours to know: these worlds cannot be replayed, and their splits are the server's
affair. Rewards are the server's too, unbounded.
"""

import json
import math
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any, ClassVar

from nanoschool.envs.adapters import package
from nanoschool.envs.common import draw, require
from nanoschool.types import Ask, Episode, Outcome, Task, UserError

OURS = {"done", "reward", "metadata"}  # fields of every observation and action
SECONDS = 10.0


@dataclass(frozen=True)
class OpenEnv:
    """A server. `action` and `observation` name the fields of text, needed where there is more than one."""

    url: str
    action: str = ""
    observation: str = ""
    turns: int = 100

    replayable: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return f"openenv:{self.url}"

    def check(self) -> None:
        """Ask the server for its form. Raises UserError where none answers, or where it has none for a reply."""
        _ = self._fields

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, self._task, split, count, seed)

    def play(self, task: Task) -> Episode:
        client = package("openenv.core.generic_client", "openenv").GenericEnvClient(base_url=self.url).sync()
        try:
            result = self._call(client.reset, seed=task.data["seed"])
            for _ in range(self.turns):
                pay, said = self._paid(result.reward), self._said(result.observation)
                if result.done:
                    return Outcome((pay,), said)
                reply = yield Ask(said, reward=pay)
                text = reply.text.encode("utf-8", "replace").decode()  # the wire has no half surrogates
                result = self._call(client.step, {self._fields[0]: text})
            pay, said = self._paid(result.reward), self._said(result.observation)
            return Outcome((pay,), said, {"truncated": not result.done})
        finally:
            client.close()

    def _call(self, verb: Callable[..., Any], *given: Any, **named: Any) -> Any:
        try:
            return verb(*given, **named)
        except (OSError, RuntimeError, ValueError, TimeoutError) as error:
            raise UserError(
                f"world {self.name}: the server says: {str(error).partition(chr(10))[0]}"
            ) from None

    def _said(self, observation: Mapping[str, Any]) -> str:
        if field := self._fields[1]:
            return str(observation.get(field, ""))
        return json.dumps({key: value for key, value in observation.items() if key not in OURS})

    def _paid(self, reward: Any) -> float:
        value = float(reward or 0.0)
        require(math.isfinite(value), self.name, f"gave a reward of {value}; mend the server")
        return value

    @cached_property
    def _fields(self) -> tuple[str, str]:
        """The fields of text of an action and an observation; "" for an observation without just one."""
        address = f"{self.url.rstrip('/')}/schema"
        try:
            with urllib.request.urlopen(address, timeout=SECONDS) as answer:
                schema = json.load(answer)
        except (OSError, ValueError) as error:
            raise UserError(
                f"world {self.name}: {address}: {error}; start the server, or mend the address"
            ) from None
        written = {part: _texts(schema.get(part, {})) for part in ("action", "observation")}
        action = self.action or (written["action"][0] if len(written["action"]) == 1 else "")
        require(
            bool(action),
            self.name,
            f"its actions have the fields of text {written['action']}; set action to the one that takes the reply",
        )
        return action, self.observation or (
            written["observation"] if len(written["observation"]) == 1 else [""]
        )[0]

    def _task(self, rng: Random) -> Task:
        seed = rng.randrange(1 << 31)
        return Task(self.name, f"{self.name} {seed}", {"seed": seed})


def world(url: str) -> OpenEnv:
    """The world that a server has. Raises UserError where the extra is missing or no server answers."""
    package("openenv.core.generic_client", "openenv")
    served = OpenEnv(url)
    served.check()
    return served


def _texts(schema: Mapping[str, Any]) -> list[str]:
    fields = schema.get("properties", {})
    return [name for name, form in fields.items() if name not in OURS and form.get("type") == "string"]
