"""disk: files and pages in memory, as the shell (envs/shell.py) reads and changes them; no real file is ever touched.

A file holds one line of words; a folder's name ends in "/" and folders do not nest: `ash`, `box/`, `box/ash`. A page
is a line of text in which `next mill` and `see barn` are links.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

LARGEST_FILE = 400  # characters
ENDLESS = "..."  # stands where a long answer was cut

NAME = r"[a-z0-9][a-z0-9.]{0,15}"
PATH = re.compile(rf"(?:{NAME}/)?{NAME}")
FOLDER = re.compile(rf"{NAME}/")
LINK = re.compile(r"\b(?:next|see) ([a-z]{1,16})")


class Refusal(Exception):
    """What a command cannot do; its text is the shell's answer."""


@dataclass
class Disk:
    """Files by path (None for a folder), pages by name, and what the player was shown. Lives for one episode."""

    files: dict[str, str | None]
    pages: Mapping[str, str]
    history: list[str] = field(default_factory=list)  # pages opened, the current one last
    seen: str = " "  # every answer, a space after each word
    errors: int = 0

    def read(self, path: str) -> str:
        content = self.files.get(path)
        if content is None:
            raise Refusal(f"no file {path}"[:32])
        return content

    def write(self, path: str, content: str) -> None:
        content = " ".join(content.split())
        if len(content) > LARGEST_FILE:
            raise Refusal("too long for a file")
        self.files[path] = content

    def texts(self) -> dict[str, str]:
        """Every file's content, by path in order."""
        return {path: text for path, text in sorted(self.files.items()) if text is not None}

    def destination(self, text: str, source: str = "") -> str:
        """The path of a file to write; a folder stands for `source`'s name in it."""
        if FOLDER.fullmatch(text) and source:
            text += source.rpartition("/")[2]
        if not PATH.fullmatch(text):
            raise Refusal("bad name")
        folder, slash, _ = text.rpartition("/")
        if slash and folder + slash not in self.files:
            raise Refusal(f"no folder {folder}/")
        return text

    def links(self) -> list[str]:
        """Where the current page leads."""
        return LINK.findall(self.pages[self.history[-1]]) if self.history else []

    def show(self, answer: str, most: int) -> str:
        """An answer as the player sees it, in at most `most` characters."""
        if len(answer) > most:
            kept = answer[: most - len(ENDLESS)]
            # The last word may be half a word, which nobody has seen; one long word has no end to cut at.
            answer = (kept[: kept.rfind(" ") + 1] or kept) + ENDLESS
        self.seen += "".join(f"{word} " for word in answer.split())
        return answer

    def has_shown(self, phrase: str) -> bool:
        return f" {phrase} " in self.seen
