"""pathstar: path-star graphs: from a centre with k arms of equal length, which way leads to the goal (2403.06963)?

After Bachmann & Nagarajan 2024, https://arxiv.org/abs/2403.06963. The edges point away from the centre and stand in
any order; the goal is the end of one arm. Only the first choice is hard: whoever takes a wrong arm follows it to a
wrong end, and whoever is taught the path token by token can learn to follow it without learning to choose. Every
name stands after a space, so that " a" can be a single token. Asked: `b q, a b, a k, k m. a to m?`, reply
`path: a k m`. The problem is the arms and the goal; the order of the edges is dress.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from string import ascii_lowercase
from typing import ClassVar

from nanoschool.envs import rulebooks
from nanoschool.envs.common import common_prefix, draw, draw_train, require
from nanoschool.types import Ask, Document, Episode, Message, Oracle, Outcome, Task

HEAD = "path:"
REPLY = re.compile(rf"{HEAD}((?: [a-z]){{1,26}})")
_STEP_END = re.compile(r"(?<= [a-z])(?= |\Z)")


@dataclass(frozen=True)
class PathStar:
    """Graphs of `arms` arms with `length` nodes each, the centre apart."""

    arms: int = 4
    length: int = 3
    name: str = "pathstar"

    replayable: ClassVar[bool] = True
    formats: ClassVar[tuple[str, ...]] = ("worked",)

    def __post_init__(self) -> None:
        fine = self.arms >= 2 and self.length >= 1 and self.arms * self.length < len(ascii_lowercase)
        complaint = f"arms={self.arms} with length={self.length} must be 2 or more arms of 1 or more nodes"
        require(fine, self.name, f"{complaint}, in all at most 25, for names are letters")

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, self._task, split, count, seed)

    def play(self, task: Task) -> Episode:
        reply = yield Ask(question(task))
        return _grade(task, reply.text)

    def demonstration(self, task: Task) -> list[Message]:
        return [Message("user", question(task)), Message("assistant", right(task))]

    def complete(self, task: Task, format: str) -> Episode:
        """The question on a line of raw text, the path on the next."""
        assert format in self.formats, format
        reply = yield Ask(f"{question(task)}\n", role="text", stop=("\n",))
        return _grade(task, reply.text.removesuffix("\n"))

    def steps(self, reply: str) -> list[int]:
        """Offsets after each node, the start included."""
        return [end.start() for end in _STEP_END.finditer(reply)] if reply.startswith(f"{HEAD} ") else []

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        """1 while the reply can still become the one right path, else 0; the prompt tells it, so there are 0 bits."""
        path = right(task)
        if replies:
            return Oracle(float(replies[-1] == path), (), 0.0)
        shared = common_prefix(partial, path)
        if shared == len(partial):
            return Oracle(1.0, (path,), 0.0)
        error = max((offset for offset in self.steps(partial) if offset <= shared), default=0)
        return Oracle(0.0, (), 0.0, error)

    def choices(self, task: Task, partial: str = "") -> list[str]:
        """Everything a walk along the edges can say next, from the steps said so far; [] where it ends or left them.

        With a policy's probability of each, its value is exact: V(s) = sum p(c) V(s + c). There are `arms` of them at
        the centre and one at every node after it.
        """
        if not partial:
            return [f"{HEAD} {task.data['start']}"]
        found = REPLY.fullmatch(partial)
        said = found[1].split() if found else []
        edges = forward(task)
        walked = said[:1] == [task.data["start"]] and all(b in edges.get(a, ()) for a, b in pairwise(said))
        return [f" {node}" for node in edges.get(said[-1], ())] if walked else []

    def walk_value(self, task: Task, partial: str = "") -> float:
        """The value under a walk that takes each edge out of a node equally often: 1/arms before the first choice."""
        options = self.choices(task, partial)
        if not options:
            return self.oracle(task, [partial]).value
        return sum(self.walk_value(task, partial + option) for option in options) / len(options)

    def guess(self, task: Task, replies: Sequence[str], rng: Random) -> str:
        """The whole of one arm: the paper's chance, that of one who follows edges and cannot choose."""
        return f"{HEAD} {' '.join((task.data['start'], *rng.choice(task.data['arms'])))}"

    def answer_space(self, task: Task) -> int:
        return len(task.data["arms"])

    def document(self, rng: Random) -> Document:
        """A train-split question on one line and its path on the next; the path alone is learned."""
        task = draw_train(self._task, rng)
        return rulebooks.answered(question(task), right(task))

    def _task(self, rng: Random) -> Task:
        names = rng.sample(ascii_lowercase, self.arms * self.length + 1)
        start, nodes = names[0], names[1:]
        arms = [nodes[i : i + self.length] for i in range(0, len(nodes), self.length)]
        edges = [list(edge) for arm in arms for edge in pairwise((start, *arm))]
        rng.shuffle(edges)
        data = {"start": start, "goal": rng.choice(arms)[-1], "arms": arms, "edges": edges}
        shape = " ".join(sorted("".join(arm) for arm in arms))
        return Task("pathstar", f"pathstar {start}: {shape} to {data['goal']}", data)


def question(task: Task) -> str:
    edges = ", ".join(f"{a} {b}" for a, b in task.data["edges"])
    return f"{edges}. {task.data['start']} to {task.data['goal']}?"


def right(task: Task) -> str:
    """The one right reply."""
    arm = next(arm for arm in task.data["arms"] if arm[-1] == task.data["goal"])
    return f"{HEAD} {' '.join((task.data['start'], *arm))}"


def forward(task: Task) -> Mapping[str, list[str]]:
    """Where the edges out of each node lead, in the order of the prompt."""
    edges: dict[str, list[str]] = {}
    for a, b in task.data["edges"]:
        edges.setdefault(a, []).append(b)
    return edges


def _grade(task: Task, reply: str) -> Outcome:
    """Exactly right or not; the feedback names the first wrong node and what is right there."""
    found, path = REPLY.fullmatch(reply), right(task).split()[1:]
    said = found[1].split() if found else []
    hits = [position < len(said) and said[position] == node for position, node in enumerate(path)]
    info = {"wellformed": found is not None, "chose": hits[1], "fraction": sum(hits) / len(path)}
    if said == path:
        return Outcome((1.0,), info=info)
    first = hits.index(False) if False in hits else len(path)
    wrong = said[first] if first < len(said) else "nothing"
    should = path[first] if first < len(path) else "nothing"
    return Outcome((0.0,), f"wrong: {wrong}, right: {should}", info)


WORLD = PathStar()
