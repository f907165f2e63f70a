"""recall: what is a person's job, from memory? Or say that you don't know, which is worth more than a wrong answer.

The price of abstaining follows Kalai et al. 2025 (https://arxiv.org/abs/2509.04664): where a wrong answer and none
earn the same, guessing is the best policy and hallucination is what reward teaches (`abstain` 0, `wrong` 0: a
control). Their rule for a stated confidence t is `abstain` 0 and `wrong` -t/(1-t). Demonstrations follow Llama 3
(https://arxiv.org/abs/2407.21783, section 4.3.6): ask the model first (`probes`), then teach it to answer what it
knew and to say "I don't know." to the rest, for answers that it cannot know teach it to make things up (Gekhman et al.
2024, https://arxiv.org/abs/2405.05904).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from nanoschool.envs.closedbook import IDK, UNKNOWN, ClosedBook, Known, reading, right, told
from nanoschool.envs.common import leading_word
from nanoschool.types import Ask, Document, Episode, Message, Oracle, Outcome, Task


@dataclass(frozen=True)
class Recall(ClosedBook):
    """`Answer: baker.` or `Answer: I don't know.`; the reward is from `wrong` to 1."""

    name: str = "recall"

    replayable: ClassVar[bool] = True
    formats: ClassVar[tuple[str, ...]] = ("worked",)

    def play(self, task: Task) -> Episode:
        reply = yield Ask(task.data["question"])
        return self._outcome(task, reading(reply.text))

    def demonstration(self, task: Task) -> list[Message]:
        """For one who remembers all that documents tell."""
        return self.shown(task, alone=told(task))

    def shown(self, task: Task, alone: bool) -> list[Message]:
        """The right answer, or "I don't know."."""
        return [Message("user", task.data["question"]), Message("assistant", right(task, alone))]

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "", known: Known = told) -> Oracle:
        """The value for one who remembers what documents tell (or what `known` says), and no more."""
        if replies:
            earned = self.grade(task, reading(replies[-1]))[0]
            return Oracle(earned, (), self.entropy_bits(task))
        return self.best(task, self.replies_worth(task, known(task)), partial)

    def document(self, rng: Random) -> Document:
        """Those of `facts`: what can be known is read there."""
        return self.facts.document(rng)

    def complete(self, task: Task, format: str) -> Episode:
        """The question in raw text; the reply's first word is the answer, unless it says that it does not know."""
        assert format in self.formats, format
        asked = f"Q: {task.data['question']} A:"
        reply = yield Ask(asked, role="text", stop=(".", "\n"), max_tokens=12)
        abstains = reply.text.strip(" ").startswith(UNKNOWN)
        return self._outcome(task, IDK if abstains else leading_word(reply.text))

    def _outcome(self, task: Task, said: str) -> Outcome:
        reward, feedback, info = self.grade(task, said)
        return Outcome((reward,), feedback, info)


WORLD = Recall()
