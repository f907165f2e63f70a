"""look: recall with a register to look things up in, at a cost: call where you do not know, and only there.

After Toolformer (Schick et al. 2023, https://arxiv.org/abs/2302.04761). A reply answers, abstains, or is a call in the
answer's place and nothing else, to which a tool says the fact, or nothing:

    What is the job of ann fox? You may look.    Answer: <look>ann fox job</look>    It says baker.    The answer is baker.

What is answered after a call has another form: it is read, and what one remembers has no part in it.

There is one call; the reply after it is graded as in recall, less the cost, though nobody earns less than `wrong`. So
a call is worth 1 - cost where the register has the person, and pays for one who is right with probability p where
1 - p > cost (at `wrong` 0, and where abstaining is worth less than 1 - cost). Documents are about people whose
attributes are new each time, for what the register says of others would change, once read, how often a fact was seen.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from nanoschool.envs.biographies import ATTRIBUTES, Person
from nanoschool.envs.closedbook import (
    FORM,
    NOBODY_SHARE,
    ClosedBook,
    Known,
    reading,
    registered,
    right,
    told,
)
from nanoschool.envs.common import require
from nanoschool.types import Ask, Document, Episode, Message, Oracle, Outcome, Task

STOP = "</look>"
CALL = re.compile(r"Answer: <look>([a-z ]{1,64})</look>")
FOUND = "The answer is {}."  # the form of an answer after a call
NOTHING = "nothing"  # what the register has of whoever is not in it
SAYS = "It says {}."  # a sentence, for a word alone has other tokens than the same word after a space


@dataclass(frozen=True)
class Look(ClosedBook):
    """`cost` is what a call takes from the reward, which is from `wrong` to 1."""

    kinds: tuple[str, ...] = ("town", "stranger", "nobody")
    cost: float = 0.2
    name: str = "look"

    replayable: ClassVar[bool] = True
    formats: ClassVar[tuple[str, ...]] = ("worked",)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.cost <= 1, self.name, f"cost={self.cost} must be from 0 to 1")

    def play(self, task: Task) -> Episode:
        return self._play(task, Ask(prompt(task), stop=(STOP,)), "tool")

    def complete(self, task: Task, format: str) -> Episode:
        """The same on one line of raw text."""
        assert format in self.formats, format
        return self._play(task, Ask(prompt(task), role="text", stop=(STOP, "\n")), "text")

    def document(self, rng: Random) -> Document:
        """One line: a name goes into the call, and what the register says into the answer."""
        known = rng.random() >= NOBODY_SHARE
        someone = self.facts.stranger(rng, "train")
        someone = someone if known else Person(someone.name, {})
        task = self._asking("stranger" if known else "nobody", someone, rng.choice(ATTRIBUTES))
        fact = task.data["answer"] or NOTHING
        return [
            (prompt(task), False),
            (f" {call(task)}", True),
            (f" {SAYS.format(fact)}", False),
            (f" {right(task, True, FOUND)}\n", True),
        ]

    def _play(self, task: Task, ask: Ask, answering: str) -> Episode:
        reply = yield ask
        plain = answering == "text"  # where spaces part what in a conversation are turns
        called = CALL.fullmatch(reply.text.strip(" ") if plain else reply.text)
        fact = self.answer(called[1]) if called else ""
        if called:
            says = SAYS.format(fact)
            reply = yield Ask(f" {says}" if plain else says, role=answering, stop=ask.stop[1:])
        said = reply.text.strip(" \n") if plain else reply.text
        reward, feedback, info = self.grade(task, reading(said, FOUND if called else FORM))
        info["called"] = bool(called)
        info["found"] = bool(fact) and fact == task.data["answer"]
        info["needed"] = not told(task) and bool(task.data["answer"])  # by one who remembers all documents
        if called:
            info["act"] = "look"
        return Outcome((self._less_cost(reward) if called else reward,), feedback, info)

    def answer(self, query: str) -> str:
        """What the register has for `ann fox job`: the value, or "nothing"."""
        name, _, attribute = query.rpartition(" ")
        someone = registered(self.facts, name)
        return someone.values.get(attribute, NOTHING) if someone else NOTHING

    def demonstration(self, task: Task) -> list[Message]:
        """For one who remembers all that documents tell."""
        return self.shown(task, alone=told(task))

    def shown(self, task: Task, alone: bool) -> list[Message]:
        """An answer from memory; or a call, what the register says, and what that leads to."""
        asked = Message("user", prompt(task))
        if alone:
            return [asked, Message("assistant", right(task, True))]
        fact = Message("tool", SAYS.format(self.answer(query(task))))
        return [asked, Message("assistant", call(task)), fact, Message("assistant", right(task, True, FOUND))]

    @property
    def confidence(self) -> float:
        """Of somebody who is in the register."""
        return (max(self.abstain, 1 - self.cost) - self.wrong) / (1 - self.wrong)

    def worth(self, task: Task, p: float) -> Mapping[str, float]:
        looked = self._less_cost(1.0 if task.data["answer"] else self.abstain)
        return {**super().worth(task, p), "look": looked}

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "", known: Known = told) -> Oracle:
        """The value for one who remembers what documents tell, or what `known` says, and who is in the register."""
        called = CALL.fullmatch(replies[0]) if replies else None
        if replies[bool(called) :]:
            reward = self.grade(task, reading(replies[-1], FOUND if called else FORM))[0]
            return Oracle(self._less_cost(reward) if called else reward, (), self.entropy_bits(task))
        knows = known(task) or (called is not None and called[1] == query(task))
        worth = self.replies_worth(task, knows, FOUND if called else FORM)
        if called:
            worth = {reply: self._less_cost(value) for reply, value in worth.items()}
        else:
            worth[call(task)] = self.worth(task, 0.0)["look"]
        return self.best(task, worth, partial)

    def _less_cost(self, reward: float) -> float:
        return max(self.wrong, reward - self.cost)


def prompt(task: Task) -> str:
    return f"{task.data['question']} You may look."


def query(task: Task) -> str:
    return f"{task.data['person']} {task.data['attribute']}"


def call(task: Task) -> str:
    return f"Answer: <look>{query(task)}{STOP}"


WORLD = Look()
