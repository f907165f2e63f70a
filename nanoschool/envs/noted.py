"""noted: other rule-books, some of whose entries stand in the notes: how to read notes, and how to write one.

Teaches the form of what is played in the world `hidden`, and nothing of any book there. Half of the demonstrations answer
a question below notes (a system message) that hold some of the book's entries, none to all; what they do not tell can
only be guessed among the outputs, so one who was taught here explores them evenly. The other half write a note on an
attempt that was corrected in one place. The problem is the map without its name, as in `rules`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from nanoschool.envs import rulebooks
from nanoschool.envs.common import draw
from nanoschool.envs.hidden import OUTPUTS, drawn
from nanoschool.envs.notebook import Notebook
from nanoschool.envs.rules import answer_of, grade, problem
from nanoschool.types import Ask, Episode, Message, Oracle, Outcome, Task


@dataclass(frozen=True)
class Noted(Notebook):
    size: int = 8
    asked: tuple[int, ...] = (3, 4, 5)  # how many keys a question has
    writing: float = 0.5  # of the tasks, which ask for a note
    name: str = "noted"

    replayable: ClassVar[bool] = True

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, self._task, split, count, seed)

    def play(self, task: Task) -> Episode:
        """The question alone: what stands in the notes is the player's own matter."""
        if "said" in task.data:
            review = grade(task, task.data["said"]).feedback
            reply = yield self.invite(task, [task.data["said"]], review)
            correct = reply.text == self._note(task)
            return Outcome((float(correct),), "" if correct else f"wrong: {reply.text}, right: {self._note(task)}",
                           {"kind": "write", "wellformed": bool(self.items(reply.text))})  # fmt: skip
        reply = yield Ask(f"{task.data['name']}? {' '.join(task.data['asked'])}")
        outcome = grade(task, reply.text)
        return Outcome(outcome.rewards, outcome.feedback, {**outcome.info, "kind": "read"})

    def demonstration(self, task: Task) -> list[Message]:
        ask = next(self.play(task))
        if "said" in task.data:
            return [Message("user", ask.text), Message("assistant", self._note(task))]
        name, rules = task.data["name"], task.data["map"]
        notes = self.playbook([rulebooks.line(name, [(key, rules[key])]) for key in task.data["told"]])
        system = [Message("system", notes)] if notes else []
        return [*system, Message("user", ask.text), Message("assistant", answer_of(task))]

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        should = self._note(task) if "said" in task.data else answer_of(task)
        hidden = [] if "said" in task.data else task.data["asked"]
        if replies:
            return Oracle(float(replies[-1] == should), (), 3.0 * len(hidden))
        fine = should.startswith(partial)
        return Oracle(float(fine), (should,) if fine else (), 3.0 * len(hidden))

    def guess(self, task: Task, replies: Sequence[str], rng: Random) -> str:
        keys = task.data["asked"] if "said" not in task.data else [rng.choice(task.data["asked"])]
        return rulebooks.line(task.data["name"], [(key, rng.choice(OUTPUTS)) for key in keys])

    def answer_space(self, task: Task) -> int:
        asked = len(task.data["asked"])
        return len(OUTPUTS) * asked if "said" in task.data else len(OUTPUTS) ** asked

    def _note(self, task: Task) -> str:
        wrong = next(k for k in task.data["asked"] if task.data["guesses"][k] != task.data["map"][k])
        return rulebooks.line(task.data["name"], [(wrong, task.data["map"][wrong])])

    def _task(self, rng: Random) -> Task:
        rules, name = drawn(rng, self.size), rulebooks.syllables(rng)
        asked = rng.sample(list(rules), rng.choice(self.asked))
        data = {"name": name, "map": rules, "asked": asked}
        if rng.random() >= self.writing:
            told = rng.sample(list(rules), rng.randint(0, self.size))
            return Task(self.name, problem(rules), {**data, "told": told})
        guesses = {key: rules[key] if rng.random() < 0.5 else rng.choice(OUTPUTS) for key in asked}
        if all(guesses[key] == rules[key] for key in asked):
            guesses[asked[-1]] = next(output for output in OUTPUTS if output != rules[asked[-1]])
        said = rulebooks.line(name, guesses.items())
        return Task(self.name, problem(rules), {**data, "said": said, "guesses": guesses})


WORLD = Noted()
