"""rewrite: hidden programs that rewrite strings, asked with the rule-book in the prompt or without it.

Where envs/rules.py has maps from letter to letter, here a few operations are done in a
row to a whole string (envs/programs.py says which). The book: `tam: a to b, if c reverse, no d`; asked: `<book>. tam?
a c b, d a`; reply `tam: b c b, no`. A program may have letters without a rule, and says `no` to strings that hold
one. The feedback names the first wrong place and what is right there. The problem is the program without its name;
programs that do the same fall into one split.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from nanoschool.envs import rulebooks
from nanoschool.envs.common import draw, draw_train, require
from nanoschool.envs.programs import (
    EMPTY,
    GAP,
    behaviour,
    draw_gaps,
    draw_program,
    entropy,
    output,
    write,
)
from nanoschool.types import Ask, Document, Episode, Message, Oracle, Outcome, Task

LETTERS = "abcdefgh"
NOTHING = "nothing"
_OUTPUT = rf"(?:{GAP}|{EMPTY}|[a-z](?: [a-z]){{0,15}})"
REPLY = re.compile(rf"([a-z]{{3,5}}): ({_OUTPUT}(?:, {_OUTPUT}){{0,7}})")


@dataclass(frozen=True)
class Rewrite:
    """Programs of `lengths` operations over `letters` letters, up to `gaps` of which have no rule."""

    letters: int = 4
    lengths: tuple[int, ...] = (1, 2)
    gaps: int = 1
    strings: int = 2  # in a question
    string_lengths: tuple[int, ...] = (3, 4, 5)
    book: bool = True
    feedback_share: float = 0.3  # of the documents
    name: str = "rewrite"

    replayable: ClassVar[bool] = True
    formats: ClassVar[tuple[str, ...]] = ("worked",)

    def __post_init__(self) -> None:
        require(2 <= self.letters <= 8, self.name, f"letters={self.letters} must be from 2 to 8")
        fine = bool(self.lengths) and all(1 <= length <= 3 for length in self.lengths)
        require(fine, self.name, f"lengths={self.lengths} must be numbers of operations, from 1 to 3")
        fine = 0 <= self.gaps < self.letters
        require(fine, self.name, f"gaps={self.gaps} must be 0 or more, and below letters={self.letters}")
        require(1 <= self.strings <= 8, self.name, f"strings={self.strings} must be from 1 to 8")
        fine = bool(self.string_lengths) and all(2 <= length <= 16 for length in self.string_lengths)
        require(fine, self.name, f"string_lengths={self.string_lengths} must be lengths from 2 to 16")

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, self._task, split, count, seed, key=self._behaviour)

    def play(self, task: Task) -> Episode:
        reply = yield Ask(self._question(task))
        return _grade(task, reply.text)

    def demonstration(self, task: Task) -> list[Message]:
        return [Message("user", self._question(task)), Message("assistant", right(task))]

    def complete(self, task: Task, format: str) -> Episode:
        """The question on a line of raw text, the answer on the next. Always with the book."""
        assert format in self.formats, format
        reply = yield Ask(f"{replace(self, book=True)._question(task)}\n", role="text", stop=("\n",))
        return _grade(task, reply.text.removesuffix("\n"))

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        """The value is that of one who knows the program: 1 while the reply can still become the right one.

        Entropy: of the outputs together, over all programs as they are drawn, when the book is not in the prompt.
        """
        bits = 0.0
        if not self.book:
            bits = entropy(self._alphabet(), self.lengths, self.gaps, tuple(task.data["asked"]))
        if replies:
            return Oracle(float(replies[-1] == right(task)), (), bits)
        if right(task).startswith(partial):
            return Oracle(1.0, (right(task),), bits)
        return Oracle(0.0, (), bits)

    def guess(self, task: Task, replies: Sequence[str], rng: Random) -> str:
        """For each asked string any output that its length allows, `no` and nothing left among them."""
        said = []
        for string in task.data["asked"]:
            at = rng.randrange(self._outputs(len(string)))
            if at == 0:
                said.append(GAP)
                continue
            at, symbols = at - 1, []
            while at:  # strings are counted as numbers are, with digits from 1 to `letters`
                at, digit = divmod(at - 1, self.letters)
                symbols.append(LETTERS[digit])
            said.append(" ".join(symbols) or EMPTY)
        return f"{task.data['name']}: {', '.join(said)}"

    def answer_space(self, task: Task) -> int:
        space = 1
        for string in task.data["asked"]:
            space *= self._outputs(len(string))
        return space

    def document(self, rng: Random) -> Document:
        """A train-split question with its book and answer; in a share an answer with one wrong place comes first."""
        task = draw_train(self._task, rng, self._behaviour)
        question = replace(self, book=True)._question(task)
        if rng.random() >= self.feedback_share:
            return rulebooks.answered(question, right(task))
        wrong = self._spoilt(task, rng)
        seen = f"{question}\nsaid {wrong}\n{_grade(task, wrong).feedback}"
        return rulebooks.answered(seen, f"said {right(task)}")

    def _spoilt(self, task: Task, rng: Random) -> str:
        """The right reply with one symbol exchanged for another."""
        outputs = outputs_of(task)
        said = rng.choice(outputs)
        place = rng.randrange(len(said))
        said[place] = rng.choice([letter for letter in self._alphabet() if letter != said[place]])
        return _reply(task, outputs)

    def _outputs(self, length: int) -> int:
        """How many outputs a string of that length could have: `no`, and every string that is not longer."""
        return 1 + sum(self.letters**size for size in range(length + 1))

    def _alphabet(self) -> str:
        return LETTERS[: self.letters]

    def _behaviour(self, task: Task) -> str:
        return behaviour(task.data["program"], task.data["gaps"], self._alphabet())

    def _question(self, task: Task) -> str:
        name, asked = task.data["name"], ", ".join(map(" ".join, task.data["asked"]))
        book = f"{name}: {', '.join(write(task.data['program'], task.data['gaps']))}. " if self.book else ""
        return f"{book}{name}? {asked}"

    def _task(self, rng: Random) -> Task:
        letters = self._alphabet()
        program = draw_program(rng, letters, self.lengths)
        gaps = draw_gaps(rng, letters, self.gaps)
        asked = [
            "".join(rng.choices(letters, k=rng.choice(self.string_lengths))) for _ in range(self.strings)
        ]
        data = {"name": rulebooks.syllables(rng), "program": program, "gaps": gaps, "asked": asked}
        return Task("rewrite", f"rewrite {', '.join(write(program, gaps))}", data)


def outputs_of(task: Task) -> list[list[str]]:
    """The right output of every asked string, in symbols."""
    return [output(task.data["program"], task.data["gaps"], string) for string in task.data["asked"]]


def right(task: Task) -> str:
    """The one right reply."""
    return _reply(task, outputs_of(task))


def _reply(task: Task, outputs: Sequence[Sequence[str]]) -> str:
    return f"{task.data['name']}: {', '.join(map(' '.join, outputs))}"


def _grade(task: Task, reply: str) -> Outcome:
    """Exactly right or not; the feedback names the first wrong place: which string, which symbol, what is right."""
    found, outputs, name = REPLY.fullmatch(reply), outputs_of(task), task.data["name"]
    said = [out.split(" ") for out in found[2].split(", ")] if found else []
    hits = sum(one == other for one, other in zip(said, outputs, strict=False))
    info = {"wellformed": found is not None, "fraction": hits / len(outputs)}
    if said == outputs and found:
        feedback = "" if found[1] == name else f"wrong: {found[1]}, right: {name}"
        return Outcome((float(not feedback),), feedback, info)
    for number in range(max(len(said), len(outputs))):
        one, other = (parts[number] if number < len(parts) else [] for parts in (said, outputs))
        for place in range(max(len(one), len(other))):
            wrong, truth = (parts[place] if place < len(parts) else NOTHING for parts in (one, other))
            if wrong != truth:
                where = f"string {number + 1} place {place + 1}"
                return Outcome((0.0,), f"{where} wrong: {wrong}, right: {truth}", info)
    raise AssertionError("different outputs differ in some place")


WORLD = Rewrite()
