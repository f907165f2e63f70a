"""rules: hidden symbol maps, asked with their rule-book in the prompt or without it.

A map takes 8 letters to outputs out of 8 letters, each key uniformly (3 bits a key), and up
to two keys to no output ("no"). Keys and outputs share one alphabet: in a trial a model that could tell them apart
guessed among the outputs for twice as long before it learned to look a key up. Every symbol stands after a space, so
that " a", " no" can be single tokens. The book: `tam: a k, b m, c no, d q`. Asked: `<book>. tam? d a c`, reply
`tam: d q, a k, c no`.
The problem is the map without its name. Documents are in envs/rulebooks.py.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log2
from random import Random
from string import ascii_lowercase
from typing import ClassVar

from nanoschool.envs import rulebooks
from nanoschool.envs.common import draw, draw_train, problem_of, require
from nanoschool.envs.notebook import Notebook
from nanoschool.types import Ask, Document, Episode, Message, Oracle, Outcome, Task

GAP = "no"
NOTHING = "nothing"
SYMBOLS = (*ascii_lowercase, GAP)
REPLY = re.compile(rf"([a-z]{{3,5}}): ((?:[a-z] (?:[a-z]|{GAP}), ){{0,63}}[a-z] (?:[a-z]|{GAP}))")


@dataclass(frozen=True)
class Rules(Notebook):
    """Maps of `size` keys to `outputs` symbols with up to `gaps` gaps; without `book` the rule stays hidden."""

    size: int = 8
    outputs: int = 8
    gaps: int = 2
    book: bool = True
    asked: tuple[int, ...] = (3, 4, 5)  # how many keys a question has
    entries: int = 40  # of a reading row, its book's included
    shares: tuple[float, float, float, float] = (
        0.6,
        0.2,
        0.1,
        0.1,
    )  # reading rows, questions, feedback, notes
    name: str = "rules"

    replayable: ClassVar[bool] = True
    formats: ClassVar[tuple[str, ...]] = ("worked",)

    def __post_init__(self) -> None:
        for setting in ("size", "outputs"):
            value = getattr(self, setting)
            require(
                2 <= value <= 26,
                self.name,
                f"{setting}={value} must be from 2 to 26, for symbols are letters",
            )
        require(self.entries > self.size, self.name, f"entries={self.entries} must be above size={self.size}")
        require(
            min(self.asked, default=0) >= 1,
            self.name,
            f"asked={self.asked} must be numbers of keys, 1 or more",
        )

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, lambda rng: self._task(rng, self.size), split, count, seed)

    def play(self, task: Task) -> Episode:
        reply = yield Ask(self._question(task))
        return grade(task, reply.text)

    def demonstration(self, task: Task) -> list[Message]:
        return [Message("user", self._question(task)), Message("assistant", answer_of(task))]

    def complete(self, task: Task, format: str) -> Episode:
        """The question on a line of raw text, the answer on the next. Always with the book."""
        assert format in self.formats, format
        reply = yield Ask(f"{replace(self, book=True)._question(task)}\n", role="text", stop=("\n",))
        return grade(task, reply.text.removesuffix("\n"))

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        """The value is that of one who knows the rule: 1 while the reply can still become the right one.

        Entropy: log2(outputs) for each distinct asked key that has an output, when the book is not in the prompt.
        """
        keys = {key for key in task.data["asked"] if task.data["map"][key] != GAP}
        bits = 0.0 if self.book else log2(self.outputs) * len(keys)
        if replies:
            return Oracle(float(replies[-1] == answer_of(task)), (), bits)
        right = answer_of(task)
        if right.startswith(partial):
            return Oracle(1.0, (right,), bits)
        return Oracle(0.0, (), bits)

    def guess(self, task: Task, replies: Sequence[str], rng: Random) -> str:
        """The asked keys in their order, each with any letter or a gap: the book is not looked at."""
        entries = [(key, rng.choice(SYMBOLS)) for key in task.data["asked"]]
        return rulebooks.line(task.data["name"], entries)

    def answer_space(self, task: Task) -> int:
        return len(SYMBOLS) ** len(task.data["asked"])

    def document(self, rng: Random) -> Document:
        """A reading row (of a book of any size up to `size`), a question, a corrected answer or a note."""
        kind = rng.choices(("row", "asked", "feedback", "note"), self.shares)[0]
        size = rng.randint(1, self.size) if kind == "row" else self.size
        # The entries that an answer shows are a map too, so they must be of the train split as well.
        keys = (problem_of,) if kind == "row" else (problem_of, asked_problem)
        task = draw_train(lambda rng: self._task(rng, size), rng, *keys)
        name, rules = task.data["name"], task.data["map"]
        if kind == "row":
            queries = rng.choices(list(rules.items()), k=self.entries - len(rules))
            return rulebooks.row(name, rules.items(), queries)
        shown = {key: rules[key] for key in task.data["asked"]}
        if kind == "asked":
            return rulebooks.answered(replace(self, book=True)._question(task), answer_of(task))
        if kind == "feedback":
            return rulebooks.feedback(name, shown, rules, rng)
        return rulebooks.note(name, shown, rng)

    def gate_rows(self, count: int, seed: int, shuffled: bool = False) -> tuple[list[Document], float]:
        """The reading gate: rows over `count` unseen test-split maps, each key asked once, its output to be read.

        Learned spans are what is scored. `shuffled` permutes the outputs among the book's keys and leaves the
        answers, so a model that reads the book falls to chance. Keys are not asked twice, for the row's own
        first answer would tell the second. The number is the share of answers that the book as shown gives: 1, or
        by chance (outputs repeat, so it is above one in eight).
        """
        rng = Random(f"{self.name}/gate/{seed}")
        rows, agreeing, count_asked = [], 0, 0
        for task in self.tasks("test", count, seed):
            rules: Mapping[str, str] = task.data["map"]
            outputs = list(rules.values())
            asked = rng.sample(list(rules), len(rules))
            # Drawn either way, so that the two sets ask the same questions.
            permuted = rng.sample(outputs, len(outputs))
            book = dict(zip(rules, permuted if shuffled else outputs, strict=True))
            agreeing += sum(book[key] == rules[key] for key in asked)
            count_asked += len(asked)
            rows.append(rulebooks.row(task.data["name"], book.items(), [(key, rules[key]) for key in asked]))
        return rows, agreeing / count_asked

    def symbols(self) -> list[str]:
        """Every symbol as it is written; each must be a single token for the gate to mean what it says."""
        return [f" {symbol}" for symbol in SYMBOLS]

    def _question(self, task: Task) -> str:
        name = task.data["name"]
        question = f"{name}? {' '.join(task.data['asked'])}"
        return f"{rulebooks.line(name, task.data['map'].items())}. {question}" if self.book else question

    def _task(self, rng: Random, size: int) -> Task:
        keys = rng.sample(ascii_lowercase, size)
        alphabet = rng.sample(ascii_lowercase, self.outputs)
        rules = {key: rng.choice(alphabet) for key in keys}
        for key in rng.sample(keys, rng.randint(0, min(self.gaps, size - 1))):
            rules[key] = GAP
        asked = rng.sample(keys, min(rng.choice(self.asked), size))
        data = {"name": rulebooks.syllables(rng), "map": rules, "asked": asked}
        return Task("rules", problem(rules), data)


def problem(rules: Mapping[str, str]) -> str:
    """The canonical form of a map: its entries sorted, whatever its name."""
    return "rules " + " ".join(key + rules[key] for key in sorted(rules))


def asked_problem(task: Task) -> str:
    """The canonical form of the asked entries alone."""
    return problem({key: task.data["map"][key] for key in task.data["asked"]})


def _pairs(task: Task) -> list[str]:
    return [f"{key} {task.data['map'][key]}" for key in task.data["asked"]]


def answer_of(task: Task) -> str:
    return f"{task.data['name']}: {', '.join(_pairs(task))}"


def grade(task: Task, reply: str) -> Outcome:
    """Exactly right or not; the feedback names the first wrong position and what is right there."""
    found = REPLY.fullmatch(reply)
    right, name = _pairs(task), task.data["name"]
    said = found[2].split(", ") if found else []
    hits = [position < len(said) and said[position] == pair for position, pair in enumerate(right)]
    info = {"wellformed": found is not None, "fraction": sum(hits) / len(right)}
    if found and said == right:
        feedback = "" if found[1] == name else f"wrong: {found[1]}, right: {name}"
        return Outcome((float(not feedback),), feedback, info)
    first = hits.index(False) if False in hits else len(right)
    wrong = said[first] if first < len(said) else NOTHING
    should = right[first] if first < len(right) else NOTHING
    return Outcome((0.0,), f"wrong: {wrong}, right: {should}", info)


WORLD = Rules()
