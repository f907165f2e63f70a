"""closedbook: what recall and look share: questions about people that nothing in the prompt answers, and "I don't know.".

The questions are those of `facts`, closed, about three kinds of people:

    town      told of by the documents of `facts` as often as their exposure says (0: never), and asked about by none
    stranger  has attributes too, which no document tells
    nobody    has none: whoever answers has made it up

The person's name decides the split, so the names that "I don't know." is taught on are not those it is tested on.
A stranger of dev or test is named in no document at all. Strangers and nobodies have the first name of one person
and the last of another, both of the train split and told of often: where names were any, whoever was taught had
learned which halves of names those have whom it knew, and not whom it knew. The town is that of `facts`: give both
worlds the same settings.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import log2
from random import Random
from typing import Any

from nanoschool.envs import biographies
from nanoschool.envs.biographies import ATTRIBUTES, FIRST, LAST, VALUES, Person
from nanoschool.envs.common import draw, leading_word, require, split_of
from nanoschool.envs.facts import Facts
from nanoschool.types import Ask, Episode, Oracle, Outcome, Task

Known = Callable[
    [Task], bool
]  # does one know the answer? For a set of problems: `lambda t: t.problem in known`
UNKNOWN = "I don't know"
FORM = "Answer: {}."
IDK = FORM.format(UNKNOWN)
KINDS = ("town", "stranger", "nobody")
NOBODY_SHARE = 1 / 3  # of the names outside the town


def told(task: Task) -> bool:
    """Does one know the answer who remembers every document?"""
    return task.data["exposure"] > 0


@dataclass(frozen=True)
class ClosedBook:
    """Right is worth 1, abstaining `abstain`, anything else `wrong`: answering pays above `self.confidence`."""

    facts: Facts = field(default_factory=Facts)
    kinds: tuple[str, ...] = ("town", "stranger")  # equally often, as long as a split has people of all
    abstain: float = 0.3
    wrong: float = 0.0
    name: str = "closedbook"

    def __post_init__(self) -> None:
        fine = bool(self.kinds) and set(self.kinds) <= set(KINDS)
        require(fine, self.name, f"kinds={self.kinds} must be of {', '.join(KINDS)}")
        left = "town" not in self.kinds or self.facts.asked_share < 1
        require(left, self.name, "facts.asked_share=1 leaves nobody of the train split to ask about")
        require(0 <= self.abstain < 1, self.name, f"abstain={self.abstain} must be from 0 to below 1")
        require(-99 <= self.wrong <= 0, self.name, f"wrong={self.wrong} must be from -99 to 0")

    @property
    def confidence(self) -> float:
        """The probability of being right above which an answer is worth more than abstaining (2509.04664, section 4.2)."""
        return (self.abstain - self.wrong) / (1 - self.wrong)

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, self._task, split, count, seed, key=lambda task: task.data["person"])

    def facts_of(self, split: str) -> list[Task]:
        """Every question about the town's people of a split, once: to find out what a model knows."""
        residents = [person for person in self.unasked() if split_of(person.name) == split]
        return [self._asking("town", person, attribute) for person in residents for attribute in ATTRIBUTES]

    def probes(self) -> list[Task]:
        return self.facts_of("train")

    def probe(self, task: Task) -> Episode:
        """The question as documents of `facts` put it; the reply's first word is the answer."""
        reply = yield Ask(f"Q: {task.data['question']} A:", role="text", stop=(".", "\n"), max_tokens=8)
        reward, feedback, info = self.grade(task, leading_word(reply.text))
        return Outcome((reward,), feedback, info)

    def knowledge(self, task: Task) -> str:
        return task.problem

    def alone(self, task: Task, p: float) -> bool:
        worth = self.worth(task, p)
        return worth["answer"] == max(worth.values())

    def choices(self, task: Task) -> Sequence[str]:
        return VALUES[task.data["attribute"]]

    def guess(self, task: Task, replies: Sequence[str], rng: Random) -> str:
        """One of the answers: abstaining is no guess, whatever it earns."""
        return FORM.format(rng.choice(self.choices(task)))

    def answer_space(self, task: Task) -> int:
        return len(self.choices(task))

    def entropy_bits(self, task: Task) -> float:
        """0 where there is nothing to know."""
        return log2(len(self.choices(task))) if task.data["answer"] else 0.0

    def worth(self, task: Task, p: float) -> Mapping[str, float]:
        """What each act is worth to one who is right with probability p: `act` of an outcome's info is one of these."""
        return {"answer": p + (1 - p) * self.wrong, "abstain": self.abstain, "nonsense": self.wrong}

    def regret(self, task: Task, p: float, act: str) -> float:
        """What an act costs beside the best one, for one who is right with probability p."""
        worth = self.worth(task, p)
        return max(worth.values()) - worth[act]

    def replies_worth(self, task: Task, knows: bool, form: str = FORM) -> dict[str, float]:
        """The expected reward of every well-formed reply that answers or abstains, for one who knows the answer or not."""
        answer, choices = task.data["answer"], self.choices(task)
        if knows or not answer:
            values = {word: 1.0 if word == answer else self.wrong for word in choices}
        else:
            values = dict.fromkeys(choices, self.worth(task, 1 / len(choices))["answer"])
        return {IDK: self.abstain} | {form.format(word): value for word, value in values.items()}

    def best(self, task: Task, worth: Mapping[str, float], partial: str) -> Oracle:
        """What is known of an unfinished reply, of which `worth` says what its whole forms earn."""
        open_to = {reply: value for reply, value in worth.items() if reply.startswith(partial)}
        value = max(open_to.values(), default=self.wrong)
        replies = tuple(reply for reply, earned in open_to.items() if earned == value)
        return Oracle(value, replies, self.entropy_bits(task))

    def grade(self, task: Task, said: str) -> tuple[float, str, dict[str, Any]]:
        """(reward, feedback, info) for a word, IDK, or "" for what is neither."""
        abstained, correct = said == IDK, bool(said) and said == task.data["answer"]
        reward = 1.0 if correct else self.abstain if abstained else self.wrong
        info = {
            "kind": task.data["kind"],
            "exposure": task.data["exposure"],
            "act": "abstain" if abstained else "answer" if said else "nonsense",
            "abstained": abstained,
            "hallucinated": bool(said) and not abstained and not correct,
            "correct": correct,
            "wellformed": abstained or said in self.choices(task),
        }
        right = correct or (abstained and not told(task))
        return reward, "" if right else self._feedback(task), info

    def _feedback(self, task: Task) -> str:
        asked = f"the {task.data['attribute']} of {task.data['person']}"
        return f"{asked} is {task.data['answer']}" if told(task) else f"nobody has told {asked}"

    def _task(self, rng: Random) -> Task:
        kind, attribute = rng.choice(self.kinds), rng.choice(ATTRIBUTES)
        if kind == "town":
            return self._asking(kind, rng.choice(self.unasked()), attribute)
        while True:
            name = self._namesake(rng)
            someone = registered(self.facts, name)
            if (someone is None) == (kind == "nobody"):
                return self._asking(kind, someone or Person(name, {}), attribute)

    def unasked(self) -> Sequence[Person]:
        """The town people that no document asks about: of the others one is surer than of any that are met later."""
        return _unasked(self.facts)

    def _namesake(self, rng: Random) -> str:
        """A name of nobody in town, of halves that say nothing."""
        names, taken = _halves(self.facts)
        while (name := f"{rng.choice(names)[0]} {rng.choice(names)[1]}") in taken:
            pass
        return name

    def _asking(self, kind: str, person: Person, attribute: str) -> Task:
        data = {
            "kind": kind,
            "person": person.name,
            "attribute": attribute,
            "exposure": person.exposure,
            "question": biographies.question(attribute, person.name),
            "answer": person.values.get(attribute, ""),
        }
        return Task(self.name, f"facts {person.name} {attribute}", data)


@lru_cache
def _unasked(facts: Facts) -> tuple[Person, ...]:
    return tuple(person for person in facts.residents() if not facts.asked(person.name))


@lru_cache
def _halves(facts: Facts) -> tuple[tuple[tuple[str, str], ...], frozenset[str]]:
    """The names of the train split's people who are told of as often as most or more, in halves; and the names of all."""
    often = sorted(facts.exposures)[len(facts.exposures) // 2]
    told = [p.name for p in _unasked(facts) if split_of(p.name) == "train" and p.exposure >= often]
    halves = [(first, last) for first, _, last in (name.partition(" ") for name in told)]
    return tuple(halves), frozenset(person.name for person in facts.residents())


@lru_cache(maxsize=8192)
def registered(facts: Facts, name: str) -> Person | None:
    """Whoever has that name: of the town, or a stranger, whose attributes follow from the name; None for nobody."""
    for person in facts.residents():
        if person.name == name:
            return person
    first, _, last = name.partition(" ")
    rng = Random(f"facts/stranger/{facts.town_seed}/{name}")
    if first not in FIRST or last not in LAST or rng.random() < NOBODY_SHARE:
        return None
    return biographies.person(rng, name)


def reading(reply: str, form: str = FORM) -> str:
    """The word that a reply answers with, IDK if it abstains, "" if it does neither.

    Both begin with the same token, so that which of them it becomes is decided where the answer would stand: as
    `The answer is baker.` or `I don't know.`, which part at the first token, a model of this size learned to abstain by
    halves of names, and not at all where these said nothing.
    """
    found = re.fullmatch(re.escape(form).replace(r"\{\}", "([A-Za-z]{1,32})"), reply)
    return found[1] if found else IDK if reply == IDK else ""


def right(task: Task, knows: bool, form: str = FORM) -> str:
    """What one says who knows the answer, or does not."""
    return form.format(task.data["answer"]) if knows and task.data["answer"] else IDK
