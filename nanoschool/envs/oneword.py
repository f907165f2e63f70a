"""oneword: what worlds share whose question, after a text or alone, is answered by one word of a list.

A task's data holds `text` (what is read first, "" for nothing), `question` and `answer`. The reply is
`The answer is <answer>.`, so that the word stands after a space, as it does where it is read. Raw text asks
`<text> Q: <question> A:` and goes on ` <answer>.`.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, ClassVar

from nanoschool.envs.common import leading_word
from nanoschool.types import Ask, Episode, Message, Oracle, Outcome, Task

REPLY = re.compile(r"The answer is ([A-Za-z]{1,32})\.")


class OneWord(ABC):
    """Base of these worlds: a subclass says which words are answers, what is unknown, and the feedback."""

    replayable: ClassVar[bool] = True
    formats: ClassVar[tuple[str, ...]] = ("worked",)

    @abstractmethod
    def choices(self, task: Task) -> Sequence[str]:
        """The words of which the answer is one."""

    @abstractmethod
    def entropy_bits(self, task: Task) -> float:
        """What one does not know who has read the prompt and knows the rules."""

    @abstractmethod
    def feedback(self, task: Task) -> str:
        """The truth in words, for one who was wrong."""

    @abstractmethod
    def about(self, task: Task) -> Mapping[str, Any]:
        """What a report may sort the tasks by."""

    def play(self, task: Task) -> Episode:
        reply = yield Ask(prompt(task))
        found = REPLY.fullmatch(reply.text)
        return self._grade(task, found[1] if found else "")

    def demonstration(self, task: Task) -> list[Message]:
        return [Message("user", prompt(task)), Message("assistant", sentence(task))]

    def complete(self, task: Task, format: str) -> Episode:
        """The question in raw text; the reply's first word is the answer."""
        assert format in self.formats, format
        asked = join(task.data["text"], f"Q: {task.data['question']} A:")
        reply = yield Ask(asked, role="text", stop=(".", "\n"), max_tokens=8)
        return self._grade(task, leading_word(reply.text))

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        """The value is that of one who knows the answer: 1 while the reply can still become it."""
        bits, right = self.entropy_bits(task), sentence(task)
        if replies:
            return Oracle(float(replies[-1] == right), (), bits)
        return Oracle(1.0, (right,), bits) if right.startswith(partial) else Oracle(0.0, (), bits)

    def guess(self, task: Task, replies: Sequence[str], rng: Random) -> str:
        """One of the words, in a whole reply."""
        return f"The answer is {rng.choice(self.choices(task))}."

    def answer_space(self, task: Task) -> int:
        return len(self.choices(task))

    def _grade(self, task: Task, word: str) -> Outcome:
        correct = word == task.data["answer"]
        info = {"wellformed": word in self.choices(task), "correct": correct, **self.about(task)}
        return Outcome((float(correct),), "" if correct else self.feedback(task), info)


def prompt(task: Task) -> str:
    return join(task.data["text"], task.data["question"])


def sentence(task: Task) -> str:
    """The right reply."""
    return f"The answer is {task.data['answer']}."


def answered(question: str, answer: str) -> str:
    """A question and its answer, as documents write them."""
    return f"Q: {question} A: {answer}."


def join(*parts: str) -> str:
    """The parts that are not empty, a space between them."""
    return " ".join(part for part in parts if part)
