"""taste: a few words about given topics, judged by a taste that is a formula; noisy comparisons of two replies.

After the gold reward of Gao et al. 2022 (https://arxiv.org/abs/2210.10760). Asked: `write 8 words
about rain, sea, tree`; a reply is words with spaces between. envs/gold.py has the formula and its words. The reward is gold
over the best gold there is, cut to 0..1. A method that learns a reward pays by its own and reads `info["gold"]` as the
truth beside it. Problem: the topics, sorted, and the length.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp
from random import Random
from typing import ClassVar, NamedTuple

from nanoschool.envs import gold as formula
from nanoschool.envs.common import draw, draw_train, require
from nanoschool.envs.gold import NOUNS, WORDS, best_gold, best_rest
from nanoschool.types import Ask, Document, Episode, Message, Oracle, Outcome, Task

TOPICS = 3
POOL = 200  # tasks that pairs are about, in turn
REMEMBERED = 0.75  # the probability that a beginner names a topic
STEP = re.compile(r"\S+\s*")


class Pair(NamedTuple):
    """Two replies to one prompt, as a noisy judge ordered them."""

    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Taste:
    """Strings of `lengths` words; judges whose preference is a coin of temperature `noise` (0: always the gold's)."""

    lengths: tuple[int, ...] = (6, 7, 8, 9, 10)
    noise: float = 2.0
    name: str = "taste"

    replayable: ClassVar[bool] = True
    formats: ClassVar[tuple[str, ...]] = ("worked",)

    def __post_init__(self) -> None:
        fine = bool(self.lengths) and all(TOPICS <= length <= 16 for length in self.lengths)
        require(fine, self.name, f"lengths={self.lengths} must be numbers of words from {TOPICS} to 16")
        require(0 <= self.noise < float("inf"), self.name, f"noise={self.noise} must be 0 or more")

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, self._task, split, count, seed)

    def play(self, task: Task) -> Episode:
        reply = yield Ask(question(task))
        return _grade(task, reply.text)

    def demonstration(self, task: Task) -> list[Message]:
        """A beginner's: whoever had been shown the best string would have nothing to learn from anybody's taste."""
        said = babble(task, Random(f"{self.name}/shown/{task.problem}"))
        return [Message("user", question(task)), Message("assistant", said)]

    def complete(self, task: Task, format: str) -> Episode:
        """The question on a line of raw text, the words on the next."""
        assert format in self.formats, format
        reply = yield Ask(f"{question(task)}\n", role="text", stop=("\n",))
        return _grade(task, reply.text)

    def document(self, rng: Random) -> Document:
        """A train-split question and what a beginner writes to it."""
        task = draw_train(self._task, rng)
        return [(f"{question(task)}\n", False), (f"{babble(task, rng)}\n", True)]

    def steps(self, reply: str) -> list[int]:
        """Offsets after each word and its space."""
        return [found.end() for found in STEP.finditer(reply)]

    def guess(self, task: Task, replies: Sequence[str], rng: Random) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(task.data["length"]))

    def answer_space(self, task: Task) -> int:
        return len(WORDS) ** task.data["length"]

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        """The value is the reward of the best string that begins with `partial`, whose last word may be unfinished."""
        if replies:
            return Oracle(_reward(task, gold(task, replies[-1])), (), 0.0)
        said, begun = partial.split(), ""
        if said and not partial[-1].isspace():
            begun = said.pop()
        # A word that is begun ends as one of ours or as none; either may be the better one.
        ends = [word[len(begun) :] for word in WORDS if word.startswith(begun)] + ["zz"] if begun else [""]
        candidates = []
        for end in ends:
            so_far = (*said, begun + end) if begun else tuple(said)
            more = best_rest(tuple(task.data["topics"]), task.data["length"], so_far)
            space = " " if begun and more else ""
            candidates.append(f"{partial}{end}{space}{' '.join(more)}")
        value = max(gold(task, candidate) for candidate in candidates)
        best = tuple(candidate for candidate in candidates if gold(task, candidate) == value)
        return Oracle(_reward(task, value), best, 0.0)

    def pairs(self, split: str, count: int, seed: int = 0) -> list[Pair]:
        """`count` labelled comparisons of what a beginner writes, over at most POOL tasks of the split in turn."""
        tasks, rng = self.tasks(split, min(count, POOL), seed), Random(f"{self.name}/pairs/{split}/{seed}")
        labelled = []
        for number in range(count):
            task = tasks[number % POOL]
            one, other = babble(task, rng), babble(task, rng)
            first = label(task, one, other, rng, self.noise)
            labelled.append(Pair(question(task), *((one, other) if first else (other, one))))
        return labelled

    def _task(self, rng: Random) -> Task:
        topics, length = sorted(rng.sample(NOUNS, TOPICS)), rng.choice(self.lengths)
        return Task("taste", f"taste {length} {' '.join(topics)}", {"topics": topics, "length": length})


def question(task: Task) -> str:
    return f"write {task.data['length']} words about {', '.join(task.data['topics'])}"


def gold(task: Task, reply: str) -> float:
    """What the taste thinks of a reply to a task."""
    return formula.gold(task.data["topics"], task.data["length"], reply.split())


def label(task: Task, one: str, other: str, rng: Random, noise: float = 2.0) -> bool:
    """Does a judge prefer `one`? Bradley and Terry on gold: probability sigmoid((gold one - gold other) / noise)."""
    margin = gold(task, one) - gold(task, other)
    if noise == 0 or margin == 0:
        return margin > 0 or (margin == 0 and rng.random() < 0.5)
    return rng.random() < 1 / (1 + exp(-max(-500.0, min(500.0, margin / noise))))


def babble(task: Task, rng: Random) -> str:
    """What a beginner writes: first the topics, some of them forgotten, then any words, up to two too many or too few."""
    said = [topic for topic in task.data["topics"] if rng.random() < REMEMBERED]
    length = task.data["length"] + rng.randint(-2, 2)
    return " ".join(said + rng.choices(WORDS, k=max(0, length - len(said))))


def _reward(task: Task, value: float) -> float:
    return max(0.0, min(1.0, value / best_gold(len(task.data["topics"]), task.data["length"])))


def _grade(task: Task, reply: str) -> Outcome:
    value, said = gold(task, reply), reply.split()
    reward = _reward(task, value)
    ours = all(word in WORDS for word in said)
    info = {
        "wellformed": bool(said) and ours,
        "gold": value,
        "words": len(said),
        "length": task.data["length"],
    }
    return Outcome((reward,), "" if reward == 1.0 else _fault(task, said), info)


def _fault(task: Task, said: Sequence[str]) -> str:
    """The plainest thing to do better."""
    if len(said) != task.data["length"]:
        return f"{len(said)} words, not {task.data['length']}"
    if any(word not in WORDS for word in said):
        return "a word that is not known"
    if again := next((a for a, b in pairwise(said) if a == b), ""):
        return f"{again} stands beside itself"
    if missing := next((topic for topic in task.data["topics"] if topic not in said), ""):
        return f"nothing about {missing}"
    return "other words would be better liked"


WORLD = Taste()
