"""stories: short prose about people who carry things about, and where the things are at the end.

After bAbI (Weston et al. 2015, https://arxiv.org/abs/1502.05698), in more wordings. This is the prose of the
mix that a user's own text replaces. Asked: `<story> Where is the ball?` or `<story> Who has the ball?`, answered
in one word. The problem is the list of events; weather, feelings and wording are dress.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from nanoschool.envs.common import draw, draw_train, require, words
from nanoschool.envs.oneword import OneWord, answered
from nanoschool.types import Document, Task

PEOPLE = words("Tom Anna Ben Mia Sam Lily Max Ella Jack Nora Leo Ruth")
THINGS = words("ball book lamp key hat cup coin kite rope drum letter basket")
PLACES = words("garden kitchen barn school market forest cellar tower harbour mill")
LOOKS = words("red blue small heavy new green wooden strange fine broken")

# An event is (what, who or what, …); its wordings take the rest by position.
WORDINGS: Mapping[str, tuple[str, ...]] = {
    "be": ("{0} was in the {1}.", "{0} sat in the {1}.", "{0} stood in the {1}.", "{0} waited in the {1}."),
    "lie": (
        "There was a {look} {0} in the {1}.",
        "A {look} {0} lay in the {1}.",
        "In the {1} there was a {look} {0}.",
        "Somebody had forgotten a {look} {0} in the {1}.",
    ),
    "go": (
        "{0} went to the {1}.",
        "{0} walked to the {1}.",
        "{0} ran to the {1} as fast as the wind.",
        "{0} hurried to the {1}.",
        "{0} was curious and went to the {1}.",
    ),
    "take": (
        "{0} took the {1}.",
        "{0} picked up the {1}.",
        "{0} saw the {1} and took it.",
        "{0} smiled and picked up the {1}.",
    ),
    "drop": (
        "{0} put down the {1}.",
        "{0} dropped the {1}.",
        "{0} was tired and put down the {1}.",
        "{0} did not want the {1} any more and dropped it.",
    ),
    "give": (
        "{0} gave the {2} to {1}.",
        "{0} handed the {2} to {1}.",
        "{0} gave {1} the {2}.",
        "{1} asked for the {2}, and {0} gave it away.",
    ),
}
THEN = ("", "", "", "Then ", "After that ", "Soon ", "A little later ")
WEATHER = (
    "It was a cold morning.",
    "The sun was warm that day.",
    "It had rained all night.",
    "The wind was loud.",
    "Snow fell on the roofs.",
    "It was a quiet evening.",
)
FEELINGS = (
    "{0} was happy.",
    "{0} felt a little sad.",
    "{0} was hungry again.",
    "{0} sang a song.",
    "{0} thought about the sea.",
    "{0} laughed for a long time.",
)
LIKELY = {"go": 3, "take": 5, "drop": 2, "give": 4}
Event = tuple[str, ...]


@dataclass(frozen=True)
class Stories(OneWord):
    """Stories of four to eight sentences; a share of the documents goes on with a question and its answer."""

    moves: tuple[int, ...] = (2, 3, 4)
    question_share: float = 0.75
    name: str = "stories"

    def __post_init__(self) -> None:
        fine = bool(self.moves) and min(self.moves) >= 1
        require(fine, self.name, f"moves={self.moves} must be numbers of events, 1 or more")

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, self._task, split, count, seed)

    def choices(self, task: Task) -> Sequence[str]:
        return PLACES if task.data["kind"] == "where" else PEOPLE

    def entropy_bits(self, task: Task) -> float:
        return 0.0  # the story tells it

    def feedback(self, task: Task) -> str:
        thing, answer = task.data["thing"], task.data["answer"]
        return (
            f"the {thing} is in the {answer}" if task.data["kind"] == "where" else f"{answer} has the {thing}"
        )

    def about(self, task: Task) -> Mapping[str, Any]:
        return {"kind": task.data["kind"], "length": len(task.data["events"])}

    def document(self, rng: Random) -> Document:
        """A story on one line, all of it learned; where it asks, it asks up to four questions, about people too.

        With one question a story, one base in two had not learned where things are after 600,000 tokens of stories.
        """
        data = draw_train(self._task, rng).data
        parts = [data["text"]]
        if rng.random() < self.question_share:
            askable = questions(data["events"])
            asked = rng.sample(askable, min(len(askable), rng.randint(1, 4)))
            parts += [answered(*asking) for asking in asked]
        return [(f"{' '.join(parts)}\n", True)]

    def _task(self, rng: Random) -> Task:
        events = _happen(rng, rng.choice(self.moves))
        places, holders = follow(events)
        thing = rng.choice([event[1] for event in events if event[0] == "lie"])
        kind = rng.choice(("where", "who")) if thing in holders else "where"
        data = {
            "events": [list(event) for event in events],
            "kind": kind,
            "thing": thing,
            "text": _tell(events, rng),
            "question": _question(kind, thing),
            "answer": places[holders.get(thing, thing)] if kind == "where" else holders[thing],
        }
        return Task("stories", f"stories {'; '.join(' '.join(event) for event in events)}", data)


def follow(events: Sequence[Event]) -> tuple[dict[str, str], dict[str, str]]:
    """Where everybody and everything that lies is, and who holds what, after the events."""
    places: dict[str, str] = {}
    holders: dict[str, str] = {}
    for what, who, *rest in events:
        if what in ("be", "lie", "go"):
            places[who] = rest[0]
        elif what == "take":
            holders[rest[0]] = who
        elif what == "give":
            holders[rest[1]] = rest[0]
        else:  # drop
            places[rest[0]] = places[holders.pop(rest[0])]
    return places, holders


def questions(events: Sequence[Event]) -> list[tuple[str, str]]:
    """All that can be asked after the events, with the answers: where everybody and everything is, and who holds what."""
    places, holders = follow(events)
    there = {name: places[holders.get(name, name)] for name in places}
    where = [(_question("where", name), place) for name, place in there.items()]
    return where + [(_question("who", thing), holder) for thing, holder in holders.items()]


def _question(kind: str, name: str) -> str:
    shown = name if name in PEOPLE else f"the {name}"
    return f"Where is {shown}?" if kind == "where" else f"Who has {shown}?"


def _happen(rng: Random, moves: int) -> list[Event]:
    """Who and what is where, and then `moves` events that are possible in their turn."""
    people, places = rng.sample(PEOPLE, rng.randint(1, 2)), rng.sample(PLACES, 3)
    things = rng.sample(THINGS, rng.randint(1, 2))
    events: list[Event] = [("be", person, rng.choice(places)) for person in people]
    inhabited = [event[2] for event in events]
    # Half of the things lie where somebody is, else most stories would be walks.
    events += [("lie", thing, rng.choice(inhabited if rng.random() < 0.5 else places)) for thing in things]
    for _ in range(moves):
        possible = _possible(events, people, things, places)
        kinds = sorted({event[0] for event in possible})
        kind = rng.choices(kinds, [LIKELY[kind] for kind in kinds])[0]
        events.append(rng.choice([event for event in possible if event[0] == kind]))
    return events


def _possible(
    events: Sequence[Event], people: list[str], things: list[str], places: list[str]
) -> list[Event]:
    at, holders = follow(events)
    possible: list[Event] = [("go", who, to) for who in people for to in places if at[who] != to]
    for thing in things:
        holder = holders.get(thing)
        if holder is None:
            possible += [("take", who, thing) for who in people if at[who] == at[thing]]
        else:
            possible.append(("drop", holder, thing))
            possible += [
                ("give", holder, who, thing) for who in people if who != holder and at[who] == at[holder]
            ]
    return possible


def _tell(events: Sequence[Event], rng: Random) -> str:
    """The events in words, in order, with weather before and a feeling among them now and then."""
    sentences = [rng.choice(WEATHER)] if len(events) < 8 and rng.random() < 0.4 else []
    for what, *rest in events:
        then = "" if what in ("be", "lie") else rng.choice(THEN)
        sentences.append(then + rng.choice(WORDINGS[what]).format(*rest, look=rng.choice(LOOKS)))
    if len(sentences) < 8 and rng.random() < 0.4:
        sentences.append(rng.choice(FEELINGS).format(events[0][1]))
    return " ".join(sentences)


WORLD = Stories()
