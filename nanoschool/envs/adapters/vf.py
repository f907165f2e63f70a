"""vf: a verifiers taskset as a world, `vf:NAME`, scored by its own rewards (Prime Intellect, verifiers 0.4, v1 tasksets).

One turn: the task's prompt is asked, the reply becomes the trace that the task's rewards are called with, and their
weighted sum is the reward, unbounded. What needs more (a harness, tools, a runtime, a judge's model) is refused. The taskset
is finite or not; its first tasks, `limit` at most, are split by the text of their prompts.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from random import Random
from typing import Any, ClassVar

from nanoschool.envs.adapters import package
from nanoschool.envs.common import require, split_of
from nanoschool.types import SPLITS, Ask, Episode, Outcome, Task, TooFew, UserError


@dataclass(frozen=True)
class Verifiers:
    """One taskset. `id` is an installed module that exports it, as `eval` of verifiers takes it."""

    id: str
    limit: int = 10_000

    replayable: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"vf:{self.id}"

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        require(split in SPLITS, self.name, f"unknown split {split!r}; write one of {', '.join(SPLITS)}")
        found: dict[str, Task] = {}
        for at, theirs in enumerate(self._theirs):
            problem = f"{self.name} {' '.join(theirs.data.prompt_text.split())}"
            if split_of(problem) == split and problem not in found:
                found[problem] = Task(self.name, problem, {"index": at})
        tasks = list(found.values())
        if count > len(tasks):
            have = f"holds {len(tasks)} {split} tasks, {count} were asked for; ask for fewer"
            raise TooFew(f"world {self.name}: {have}", len(tasks))
        Random(f"{split}/{seed}").shuffle(tasks)
        return tasks[:count]

    def play(self, task: Task) -> Episode:
        theirs = self._theirs[task.data["index"]]
        prompt = "\n\n".join(part for part in (theirs.data.system_prompt, theirs.data.prompt_text) if part)
        reply = yield Ask(prompt)
        trace = self._trace(theirs, reply.text)
        try:
            asyncio.run(theirs.score(trace, None))
        except Exception as error:  # the scorer is theirs and the reply a model's
            return Outcome((0.0,), info={"complaint": f"scoring raised {type(error).__name__}: {error}"})
        reward = float(trace.reward)
        complaint = "" if math.isfinite(reward) else f"scored {reward}"
        scores = {key: value.score for key, value in trace.rewards.items() if value is not None}
        return Outcome((0.0 if complaint else reward,), info={"scores": scores, "complaint": complaint})

    @cached_property
    def _theirs(self) -> list[Any]:
        """The tasks, in the taskset's order."""
        vf = package("verifiers.v1", "verifiers")
        try:
            config = vf.taskset_config_type(self.id)(id=self.id)
            tasks = list(islice(vf.load_taskset(config), self.limit))
        except Exception as error:  # not installed, no taskset, a setting that is missing: theirs says which
            raise UserError(f"world {self.name}: {str(error).partition(chr(10))[0]} (verifiers)") from None
        require(bool(tasks), self.name, "has no tasks; name another taskset")
        first = tasks[0]
        alone = not first.NEEDS_CONTAINER and not first.plugged_judges() and first.hooks("reward")
        require(
            bool(alone and first.data.prompt),
            self.name,
            "is not one prompt with rewards of its own; play it by verifiers",
        )
        return tasks

    def _trace(self, theirs: Any, reply: str) -> Any:
        """The conversation as verifiers records it."""
        vf = package("verifiers.v1", "verifiers")
        text = reply.encode("utf-8", "replace").decode()  # pydantic takes no half surrogates
        asked = vf.UserMessage(content=theirs.data.prompt_text)
        nodes = [
            vf.MessageNode(message=asked),
            vf.MessageNode(message=vf.AssistantMessage(content=text), parent=0, sampled=True),
        ]
        of = vf.TraceTask(type=type(theirs).__name__, data=theirs.data, key=theirs.key, hash=theirs.hash)
        return vf.Trace(task=of, agent=vf.AgentInfo(config=vf.AgentConfig()), nodes=nodes)


def world(id: str) -> Verifiers:
    """The world of an installed taskset. Raises UserError where there is none, or it needs more than one turn."""
    taskset = Verifiers(id)
    taskset.tasks("train", 0)
    return taskset
