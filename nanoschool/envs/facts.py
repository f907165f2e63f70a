"""facts: people, and what was read of them often, seldom or never.

A town of fixed people, each with five attributes of 16 values (4 bits a fact) and
an exposure count 0, 1, 2, 4 … 512: documents show their biographies in these proportions. Beside them stand
endless other people, whose attributes are new in every document, so that they can be known by reading only.
A question is open (an other person's biography is in the prompt) or closed (a town person, from memory).
The problem is person and attribute, and the person's name decides the split: no document asks about anybody
outside the train split, though the biographies of such town people are there to be remembered. Of the train split's
people documents ask about a share only: of the others one can find out what is remembered of what was only told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log2
from random import Random
from typing import Any
from zlib import crc32

from nanoschool.envs import biographies
from nanoschool.envs.biographies import ATTRIBUTES, VALUES, Person
from nanoschool.envs.common import draw, require, split_of
from nanoschool.envs.oneword import OneWord, answered
from nanoschool.types import Document, Span, Task

MOST_PEOPLE = 1000  # of the 8,000 names; the others are for people outside the town


@dataclass(frozen=True)
class Facts(OneWord):
    """`people` of the town, who have `exposures` round robin; `kinds` says which questions tasks ask."""

    people: int = 192
    exposures: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    kinds: tuple[str, ...] = ("open", "closed")
    town_share: float = 0.5  # of the documents; the rest are about other people
    recall_share: float = 0.25  # of town documents with questions: these stand before the biography
    asked_share: float = 0.5  # of the train split's town people: documents tell of the others and ask nothing
    town_seed: int = 0
    name: str = "facts"

    def __post_init__(self) -> None:
        fine = bool(self.kinds) and set(self.kinds) <= {"open", "closed"}
        require(fine, self.name, f"kinds={self.kinds} must be of open, closed")
        require(
            0 < self.people <= MOST_PEOPLE, self.name, f"people={self.people} must be from 1 to {MOST_PEOPLE}"
        )
        fine = 0 <= self.asked_share <= 1
        require(fine, self.name, f"asked_share={self.asked_share} must be from 0 to 1")
        shown = self.exposures[: self.people]
        require(
            any(shown) and min(shown) >= 0,
            self.name,
            f"exposures={self.exposures} must not be all 0, nor below",
        )

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, self._task, split, count, seed, key=lambda task: task.data["person"])

    def choices(self, task: Task) -> Sequence[str]:
        return VALUES[task.data["attribute"]]

    def entropy_bits(self, task: Task) -> float:
        return log2(len(self.choices(task))) if task.data["kind"] == "closed" else 0.0

    def feedback(self, task: Task) -> str:
        return f"the {task.data['attribute']} of {task.data['person']} is {task.data['answer']}"

    def about(self, task: Task) -> Mapping[str, Any]:
        return {"kind": task.data["kind"], "exposure": task.data["exposure"]}

    def document(self, rng: Random) -> Document:
        """A biography on one line, with questions unless its person is held out.

        Biographies of others are learned too: nobody can know what they say, and who is unsure of it knows whom it knows.
        """
        if rng.random() >= self.town_share:
            return self._reading(self.stranger(rng, "train"), rng)
        people, weights = _town(self.people, self.exposures, self.town_seed)
        shown = rng.choices(people, weights)[0]
        parts = [biographies.write(shown, rng)]
        if self.asked(shown.name):
            asked = " ".join(answered(*asking) for asking in _questions(shown, rng.randint(1, 3), rng))
            parts.insert(0 if rng.random() < self.recall_share else 1, asked)
        return [(f"{' '.join(parts)}\n", True)]

    def residents(self) -> Sequence[Person]:
        """The people of the town, those of exposure 0 included."""
        return _town(self.people, self.exposures, self.town_seed)[0]

    def asked(self, name: str) -> bool:
        """Do documents ask about a person of the town, or only tell?"""
        return split_of(name) == "train" and crc32(f"asked {name}".encode()) < self.asked_share * 2**32

    def stranger(self, rng: Random, split: str = "") -> Person:
        """Somebody who does not live in the town, of one split if asked for; the attributes are drawn anew."""
        known = {person.name for person in self.residents()}
        while (name := biographies.name(rng)) in known or (split and split_of(name) != split):
            pass
        return biographies.person(rng, name)

    def _reading(self, shown: Person, rng: Random) -> Document:
        count = rng.randint(1, len(ATTRIBUTES))  # from one sentence on, where reading is the easiest
        some = replace(shown, values=dict(rng.sample(tuple(shown.values.items()), count)))
        spans: list[Span] = [(biographies.write(some, rng), True)]
        for question, answer in _questions(some, count, rng):
            spans += [(f" Q: {question} A:", False), (f" {answer}.", True)]
        return [*spans, ("\n", True)]

    def _task(self, rng: Random) -> Task:
        kind, attribute = rng.choice(self.kinds), rng.choice(ATTRIBUTES)
        if kind == "closed":
            people, weights = _town(self.people, self.exposures, self.town_seed)
            asked = rng.choice([person for person, weight in zip(people, weights, strict=True) if weight])
            text = ""
        else:
            asked = self.stranger(rng)
            text = biographies.write(asked, rng)
        data = {
            "kind": kind,
            "person": asked.name,
            "attribute": attribute,
            "exposure": asked.exposure,
            "text": text,
            "question": biographies.question(attribute, asked.name),
            "answer": asked.values[attribute],
        }
        return Task("facts", f"facts {asked.name} {attribute}", data)


@lru_cache
def _town(people: int, exposures: tuple[int, ...], seed: int) -> tuple[tuple[Person, ...], tuple[int, ...]]:
    """The people of the town and how often they are shown. It does not depend on a run's seed."""
    rng = Random(f"facts/town/{seed}")
    names: dict[str, None] = {}
    while len(names) < people:
        names[biographies.name(rng)] = None
    weights = tuple(exposures[position % len(exposures)] for position in range(people))
    return tuple(biographies.person(rng, *who) for who in zip(names, weights, strict=True)), weights


def _questions(person: Person, count: int, rng: Random) -> list[tuple[str, str]]:
    """Questions about a person with their answers, no attribute twice."""
    attributes = rng.sample(tuple(person.values), count)
    return [
        (biographies.question(attribute, person.name), person.values[attribute]) for attribute in attributes
    ]


WORLD = Facts()
