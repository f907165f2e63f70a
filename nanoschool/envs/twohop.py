"""twohop: questions over two facts: what is the job of the friend of ann fox?

After the compositions of Wang et al. 2024 (https://arxiv.org/abs/2405.15071). The people of
the town of `facts` have a friend, a boss and a neighbour among themselves, and documents tell who, as often as they
tell of the person. Closed: both hops come from memory, the first read here, the second in the biographies of `facts`;
the mix needs both worlds, with the same town. Whoever answers both hops and not the two in one holds the facts and cannot
compose them. Open: the prompt tells of strangers what it takes, and of the asked person's others what misleads.

Closed, the problem (person, relation, attribute) decides the split, over people of `facts`' train split alone, for of
others documents ask nothing. So both hops of a test question are read and the question itself never is. Open, the name
decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import log2
from random import Random
from typing import Any

from nanoschool.envs.biographies import ATTRIBUTES, SENTENCES, VALUES, Person
from nanoschool.envs.common import draw, require, split_of
from nanoschool.envs.facts import Facts
from nanoschool.envs.oneword import OneWord, answered
from nanoschool.types import Document, Span, Task

RELATIONS = ("friend", "boss", "neighbour")
WORDINGS = ("the {r} of {n} is {v}.", "{n} has {v} as a {r}.", "{v} is the {r} of {n}.")
Others = Mapping[str, Person]  # whom one knows, by relation


@dataclass(frozen=True)
class TwoHop(OneWord):
    """`kinds` says which questions tasks ask."""

    facts: Facts = field(default_factory=Facts)
    kinds: tuple[str, ...] = ("open", "closed")
    town_share: float = 0.5  # of the documents; the rest are about strangers
    two_share: float = 0.5  # of the questions about them; the rest have one hop
    recall_share: float = 0.5  # of town documents: the questions stand before what is told
    name: str = "twohop"

    def __post_init__(self) -> None:
        fine = bool(self.kinds) and set(self.kinds) <= {"open", "closed"}
        require(fine, self.name, f"kinds={self.kinds} must be of open, closed")
        require(
            len(_circle(self.facts)) > len(RELATIONS),
            self.name,
            f"facts={self.facts.people} people are too few for everybody to know {len(RELATIONS)} others",
        )

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, self._task, split, count, seed, key=_decides)

    def choices(self, task: Task) -> Sequence[str]:
        return VALUES[task.data["attribute"]]

    def entropy_bits(self, task: Task) -> float:
        return log2(len(self.choices(task))) if task.data["kind"] == "closed" else 0.0

    def feedback(self, task: Task) -> str:
        """Both hops."""
        data = task.data
        first = f"the {data['relation']} of {data['person']} is {data['bridge']}"
        return f"{first}, the {data['attribute']} of {data['bridge']} is {data['answer']}"

    def about(self, task: Task) -> Mapping[str, Any]:
        """The exposure is that of the less seen of the two hops; `hops` has both, the relation's first."""
        hops = [task.data["exposure"], task.data["bridge_exposure"]]
        return {"kind": task.data["kind"], "exposure": min(hops), "hops": hops}

    def document(self, rng: Random) -> Document:
        """Whom one person knows, with questions of one hop and of two; of the town's people all is learned."""
        if rng.random() >= self.town_share:
            return self._reading(rng)
        circle = _circle(self.facts)
        person, others = rng.choices(circle, [person.exposure for person, _ in circle])[0]
        asked = []
        for relation in rng.sample(RELATIONS, 2):
            task = _asking("closed", person, relation, rng.choice(ATTRIBUTES), others)
            if split_of(task.problem) == "train" and rng.random() < self.two_share:
                asked.append(answered(task.data["question"], task.data["answer"]))
            else:
                asked.append(answered(f"Who is the {relation} of {person.name}?", others[relation].name))
        parts = [_tell(person, others, rng)]
        at = 0 if rng.random() < self.recall_share else 1
        parts[at:at] = asked
        return [(f"{' '.join(parts)}\n", True)]

    def _reading(self, rng: Random) -> Document:
        person, others = self._strangers(rng, "train")
        attribute = rng.choice(ATTRIBUTES)
        spans: list[Span] = [(_all_told(person, others, attribute, rng), False)]
        for relation in rng.sample(RELATIONS, len(RELATIONS)):
            question = _question(person, relation, attribute)
            spans += [(f" Q: {question} A:", False), (f" {others[relation].values[attribute]}.", True)]
        return [*spans, ("\n", True)]

    def _task(self, rng: Random) -> Task:
        kind, relation, attribute = rng.choice(self.kinds), rng.choice(RELATIONS), rng.choice(ATTRIBUTES)
        if kind == "closed":
            person, others = rng.choice(_circle(self.facts))
            return _asking(kind, person, relation, attribute, others)
        person, others = self._strangers(rng)
        text = _all_told(person, others, attribute, rng)
        return _asking(kind, person, relation, attribute, others, text)

    def _strangers(self, rng: Random, split: str = "") -> tuple[Person, Others]:
        """Somebody and whom they know, none of the town, all of one split."""
        found = [self.facts.stranger(rng, split)]
        while len(found) <= len(RELATIONS):
            stranger = self.facts.stranger(rng, split_of(found[0].name))
            if stranger.name not in {person.name for person in found}:
                found.append(stranger)
        return found[0], dict(zip(RELATIONS, found[1:], strict=True))


@lru_cache
def _circle(facts: Facts) -> tuple[tuple[Person, Others], ...]:
    """The people of the train split of whom documents tell, and whom of them each knows; no run's seed changes it."""
    rng = Random(f"facts/relations/{facts.town_seed}")
    people = [p for p in facts.residents() if p.exposure and split_of(p.name) == "train"]
    if len(people) <= len(RELATIONS):
        return ()
    known = [rng.sample([p for p in people if p is not person], len(RELATIONS)) for person in people]
    return tuple(
        (person, dict(zip(RELATIONS, some, strict=True))) for person, some in zip(people, known, strict=True)
    )


def _asking(kind: str, person: Person, relation: str, attribute: str, others: Others, text: str = "") -> Task:
    bridge = others[relation]
    data = {
        "kind": kind,
        "person": person.name,
        "relation": relation,
        "attribute": attribute,
        "bridge": bridge.name,
        "exposure": person.exposure,
        "bridge_exposure": bridge.exposure,
        "text": text,
        "question": _question(person, relation, attribute),
        "answer": bridge.values[attribute],
    }
    return Task("twohop", f"twohop {person.name} {relation} {attribute}", data)


def _decides(task: Task) -> str:
    """What decides a task's split."""
    return task.problem if task.data["kind"] == "closed" else task.data["person"]


def _question(person: Person, relation: str, attribute: str) -> str:
    return f"What is the {attribute} of the {relation} of {person.name}?"


def _tell(person: Person, others: Others, rng: Random) -> str:
    """Whom one knows, in any order and one of several wordings."""
    relations = rng.sample(RELATIONS, len(RELATIONS))
    return " ".join(
        rng.choice(WORDINGS).format(r=relation, n=person.name, v=others[relation].name)
        for relation in relations
    )


def _all_told(person: Person, others: Others, attribute: str, rng: Random) -> str:
    """Both hops of a question, and those of the same question about the person's others."""
    facts = [
        rng.choice(SENTENCES[attribute]).format(n=other.name, v=other.values[attribute])
        for other in rng.sample(list(others.values()), len(others))
    ]
    return " ".join([_tell(person, others, rng), *facts])


WORLD = TwoHop()
