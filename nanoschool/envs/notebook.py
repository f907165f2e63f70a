"""notebook: notes about rule-books: how one is asked for, what it says, and how many stand together in a prompt.

A note is `tam: d q`, of one entry or more, as in envs/rulebooks.py; a playbook joins a name's entries to one book. What
is asked for is the text that the world `rules` reads, "wrong answer + feedback -> note", as a question.
"""

import re
from collections.abc import Sequence

from nanoschool.envs import rulebooks
from nanoschool.types import Ask, Task

ENTRY = re.compile(r"[a-z] (?:[a-z]|no)")
NOTE = re.compile(rf"([a-z]{{3,5}}): ({ENTRY.pattern}(?:, {ENTRY.pattern}){{0,63}})\.?")


class Notebook:
    """What a world of rule-books inherits to be one whose lessons can be written down."""

    def invite(self, task: Task, replies: Sequence[str], review: str) -> Ask:
        said = replies[-1] if replies else ""
        question = f"{task.data['name']}? {' '.join(task.data['asked'])}"
        return Ask(f"{question}\nsaid {said}\n{review}\nnote", max_tokens=48)

    def items(self, note: str) -> dict[str, str]:
        """Every entry is an item, about its name and key: a later one about the same takes its place."""
        out = {}
        for line in note.splitlines():
            if found := NOTE.fullmatch(line.strip()):
                for entry in found[2].split(", "):
                    out[f"{found[1]} {entry[0]}"] = f"{found[1]}: {entry}"
        return out

    def playbook(self, items: Sequence[str]) -> str:
        """One line a name, each a book."""
        books: dict[str, list[tuple[str, str]]] = {}
        for item in items:
            for about, line in self.items(item).items():
                name, key = about.split()
                books.setdefault(name, []).append((key, line.rpartition(" ")[2]))
        return "\n".join(f"{rulebooks.line(name, entries)}." for name, entries in books.items())
