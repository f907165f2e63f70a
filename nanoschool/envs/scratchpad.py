"""scratchpad: what worlds of written steps share: the reply's form, its grade, its steps, its oracle, its raw text.

A reply is steps joined by "; ", then " #### " and the answer: `b=3+4=7; c=7*2=14 #### 14`. The grade asks for the
form and the right last number only; whether the steps are right is the oracle's business, so that a learner who
is paid for answers can be held against one that is paid for steps.
"""

import re
from collections.abc import Sequence
from random import Random
from typing import ClassVar

from nanoschool.envs.common import NUMBER, common_prefix, leading_number
from nanoschool.types import Ask, Document, Episode, Message, Oracle, Outcome, Task

_BOUNDARY = re.compile(r"; | (?=#)| \Z")


def form(step: str) -> re.Pattern[str]:
    """The pattern of a whole reply whose steps match `step`; its group is the answer."""
    return re.compile(rf"(?:{step})(?:; (?:{step}))* #### ({NUMBER})")


class Scratchpad:
    """Base of the worlds of written steps: a subclass says what is asked and what the right work is."""

    replayable: ClassVar[bool] = True
    formats: ClassVar[tuple[str, ...]] = ("worked", "direct")
    reply_form: ClassVar[re.Pattern[str]]
    # Texts of which at least one turns any unfinished step into a whole one: the oracle tries them in turn.
    endings: ClassVar[tuple[str, ...]]
    filler: ClassVar[str]  # a step that is well formed and says nothing of any task

    def question(self, task: Task) -> str:
        """What is asked, as in `a=3; b=a+4; b=?`."""
        raise NotImplementedError

    def work(self, task: Task) -> tuple[list[str], int]:
        """The right steps and the answer."""
        raise NotImplementedError

    def conclusion(self, task: Task) -> str:
        """What stands before the answer in raw text, as in `So b=`."""
        raise NotImplementedError

    def direct(self, task: Task) -> str:
        """The raw question of one who does not write steps, up to the answer."""
        raise NotImplementedError

    def answer_space(self, task: Task) -> int:
        """Answers are whole numbers from 0; how many of them there could be, by the world's settings."""
        raise NotImplementedError

    def guess(self, task: Task, replies: Sequence[str], rng: Random) -> str:
        """A well-formed reply with a step that says nothing and a number drawn from the answer space."""
        return f"{self.filler} #### {rng.randrange(self.answer_space(task))}"

    def play(self, task: Task) -> Episode:
        reply = yield Ask(self.question(task))
        return self._grade(task, reply.text)

    def demonstration(self, task: Task) -> list[Message]:
        return [Message("user", self.question(task)), Message("assistant", self._right(task))]

    def complete(self, task: Task, format: str) -> Episode:
        """The question in raw text. "worked" reads the number after the last conclusion, "direct" the leading one."""
        worked = {"worked": True, "direct": False}[format]
        reply = yield Ask(self.question(task) if worked else self.direct(task), role="text", stop=("\n",))
        said: int | None = None
        if worked:
            _, found, after = reply.text.rpartition(self.conclusion(task))
            said = leading_number(after) if found else None
        else:
            said = leading_number(reply.text)
        steps, answer = self.work(task)
        info = {"wellformed": said is not None, "length": len(steps), "correct": said == answer}
        return Outcome((float(said == answer),), info=info)

    def steps(self, reply: str) -> list[int]:
        """Offsets after each "; " and before " ####" (also where as yet only its space or first marks are written)."""
        offsets = []
        for mark in _BOUNDARY.finditer(reply):
            if mark[0] == "; ":
                offsets.append(mark.end())
            elif " ####".startswith(reply[mark.start() : mark.start() + 5]):
                if mark.start() not in offsets[-1:]:  # "; " and " ####" with nothing between
                    offsets.append(mark.start())
                break
        return offsets

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        """The value of an unfinished reply: 1 while it can still become a right one, else 0.

        Only the form and the last number are graded, so a wrong step does not lower the value under perfect play;
        `first_error` says where the first step stands that is not the right one of this task.
        """
        if replies:
            return Oracle(self._reward(task, replies[-1]), (), 0.0)
        right = self._right(task)
        shared = common_prefix(partial, right)
        if shared == len(partial):
            return Oracle(1.0, (right,), 0.0)
        error = max((offset for offset in self.steps(partial) if offset <= shared), default=0)
        for candidate in self._completions(partial, self.work(task)[1]):
            if self._reward(task, candidate):
                return Oracle(1.0, (candidate,), 0.0, error)
        return Oracle(0.0, (), 0.0, error)

    def line(self, task: Task, worked: bool) -> Document:
        """One line of raw text about a task; loss falls on all of it."""
        steps, answer = self.work(task)
        if worked:
            text = f"{self.question(task)} {'; '.join(steps)}. {self.conclusion(task)}{answer}.\n"
        else:
            text = f"{self.direct(task)}{answer}.\n"
        return [(text, True)]

    def _right(self, task: Task) -> str:
        steps, answer = self.work(task)
        return f"{'; '.join(steps)} #### {answer}"

    def _reward(self, task: Task, reply: str) -> float:
        found = self.reply_form.fullmatch(reply)
        return float(found is not None and int(found[1]) == self.work(task)[1])

    def _grade(self, task: Task, reply: str) -> Outcome:
        found = self.reply_form.fullmatch(reply)
        steps, answer = self.work(task)
        _, marked, after = reply.rpartition("#### ")
        correct = bool(marked) and leading_number(after) == answer
        info = {"wellformed": found is not None, "length": len(steps), "correct": correct}
        return Outcome((float(found is not None and correct),), info=info)

    def _completions(self, partial: str, answer: int) -> list[str]:
        """Every way to finish that matters: the rest of " #### answer", or the rest of a step and then that."""
        end = f" #### {answer}"
        rests = [end[at:] for at in range(len(end) + 1)]
        return [partial + rest for rest in rests] + [partial + rest + end for rest in self.endings]
