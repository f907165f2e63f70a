"""playbook: short items of what was learned, edited one by one and never rewritten whole (ACE, 2510.04618, section 3).

An item is about something; a later item about the same takes its place, the same item again confirms it. A rewrite of the
whole by a model forgets (their context collapse); an edit touches what it names and nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nanoschool.methods.critique import told
from nanoschool.types import Ask, Environment, HasNotes, Task


@dataclass
class Item:
    about: str
    text: str
    confirmed: int = 0  # how often it was written again


@dataclass
class Playbook:
    items: list[Item] = field(default_factory=list)  # oldest first

    def edit(self, delta: Mapping[str, str]) -> int:
        """Add, replace or confirm; returns how many items changed."""
        changed = 0
        for about, text in delta.items():
            old = next((item for item in self.items if item.about == about), None)
            if old and old.text == text:
                old.confirmed += 1
                continue
            if old:
                self.items.remove(old)
            self.items.append(Item(about, text))
            changed += 1
        return changed

    def shrink(self, fits: Callable[[list[str]], bool]) -> int:
        """Drop the least confirmed items, the oldest first, until the rest fits; returns how many went."""
        before = len(self.items)
        while self.items and not fits(self.texts()):
            self.items.remove(min(self.items, key=lambda item: item.confirmed))
        return before - len(self.items)

    def texts(self) -> list[str]:
        return [item.text for item in self.items]

    def to_json(self) -> list[list[str | int]]:
        return [[item.about, item.text, item.confirmed] for item in self.items]

    @classmethod
    def from_json(cls, data: Sequence[Sequence]) -> "Playbook":
        return cls([Item(*row) for row in data])


@dataclass(frozen=True)
class PlainNotes:
    """Notes in plain words, for worlds that say nothing of how theirs are written: a line a note, a dash before each."""

    env: Environment

    def invite(self, task: Task, replies: Sequence[str], review: str) -> Ask:
        return Ask("\n".join([*told(self.env, task, replies), review, "note"]), stop=("\n",), max_tokens=48)

    def items(self, note: str) -> dict[str, str]:
        """Each line, which is about itself: the same words again confirm it."""
        lines = [line.strip().removeprefix("- ") for line in note.splitlines()]
        return {line: f"- {line}" for line in lines if line}

    def playbook(self, items: Sequence[str]) -> str:
        return "\n".join(items)


def form_of(env: Environment) -> HasNotes:
    """How notes are written in this world: as it says, else in plain words."""
    return env if isinstance(env, HasNotes) else PlainNotes(env)
