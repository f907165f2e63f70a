"""shell: the command lines that read and change a disk in memory (envs/disk.py).

A line is one command, or reading commands joined by "|", with "> FILE" or ">> FILE" at its end:

    read     ls [FOLDER]   find TEXT   cat FILE…   grep WORD [FILE…]   wc [FILE…]   sum [FILE…]   sort [FILE…]
             head N [FILE…]   echo WORD…   open PAGE   follow LINK   back
    change   cp FILE TO   mv FILE TO   rm FILE-or-FOLDER/   mkdir FOLDER/   replace OLD NEW FILE

Without files grep, wc, sum, sort and head read what is piped in, or else every file. A command that changes files
stands alone, so a line changes one path, and only mv two: that is what makes shortest plans exact (envs/plans.py).
"""

import re
from collections.abc import Callable

from nanoschool.envs.disk import FOLDER, Disk, Refusal

LONGEST_LINE = 200  # characters
LINE = re.compile(r"([^>]*)(?:(>>?)([^>]*))?")
INTEGER = re.compile(r"-?[0-9]{1,9}")
CHANGES = ("cp", "mv", "rm", "mkdir", "replace")
NOTHING = "nothing"


def run(disk: Disk, line: str, shown: int = 120) -> str:
    """Do one line on the disk and answer in at most `shown` characters. Never raises, whatever the line."""
    try:
        answer = _run(disk, line)
    except Refusal as refusal:
        disk.errors += 1
        answer = f"error: {refusal}"
    return disk.show(answer or "ok", shown)


def _run(disk: Disk, line: str) -> str:
    plain = len(line) <= LONGEST_LINE and line.isascii() and line.isprintable()
    parsed = LINE.fullmatch(line) if plain else None
    if parsed is None:
        raise Refusal("not a command line")
    stages = [stage.split() for stage in parsed[1].split("|")]
    for stage in stages:
        if not stage or stage[0] not in COMMANDS:
            raise Refusal("no such command")
        if stage[0] in CHANGES and (len(stages) > 1 or parsed[2]):
            raise Refusal(f"{stage[0]} stands alone")
        least, most, _ = COMMANDS[stage[0]]
        if not least < len(stage) <= most + 1:
            raise Refusal(f"{stage[0]} takes other words")
    text: str | None = None
    for name, *words in stages:
        text = COMMANDS[name][2](disk, words, text)
    assert text is not None  # there is a stage
    if parsed[2]:
        to = disk.destination(parsed[3].strip())
        before = disk.files.get(to) if parsed[2] == ">>" else None
        disk.write(to, f"{before or ''} {text}")
        return ""
    return text or NOTHING if stages[-1][0] not in CHANGES else ""


# The commands: on the disk, with the words after the name and what was piped in


def ls(disk: Disk, words: list[str], piped: str | None) -> str:
    folder = words[0] if words else ""
    if folder and not (FOLDER.fullmatch(folder) and folder in disk.files):
        raise Refusal("no such folder")
    inside = [path[len(folder) :] for path in sorted(disk.files) if path.startswith(folder)]
    return " ".join(name for name in inside if name and "/" not in name[:-1])


def find(disk: Disk, words: list[str], piped: str | None) -> str:
    return " ".join(path for path in sorted(disk.files) if words[0] in path)


def cat(disk: Disk, words: list[str], piped: str | None) -> str:
    return "\n".join(disk.read(path) for path in words)


def grep(disk: Disk, words: list[str], piped: str | None) -> str:
    word, *paths = words
    if piped is not None and not paths:
        return "\n".join(line for line in piped.split("\n") if word in line.split())
    texts = _texts(disk, paths)
    return "\n".join(f"{path}: {text}" for path, text in texts.items() if word in text.split())


def wc(disk: Disk, words: list[str], piped: str | None) -> str:
    if piped is not None and not words:
        return str(len(piped.split()))
    return "\n".join(f"{path}: {len(text.split())}" for path, text in _texts(disk, words).items())


def total(disk: Disk, words: list[str], piped: str | None) -> str:
    found = [word for word in _given(disk, words, piped).split() if INTEGER.fullmatch(word)]
    return str(sum(map(int, found)))


def sort(disk: Disk, words: list[str], piped: str | None) -> str:
    return " ".join(sorted(_given(disk, words, piped).split()))


def head(disk: Disk, words: list[str], piped: str | None) -> str:
    count, *paths = words
    if not INTEGER.fullmatch(count):
        raise Refusal("head takes a number")
    return " ".join(_given(disk, paths, piped).split()[: max(0, int(count))])


def echo(disk: Disk, words: list[str], piped: str | None) -> str:
    return " ".join(words)


def cp(disk: Disk, words: list[str], piped: str | None) -> str:
    content, to = disk.read(words[0]), disk.destination(words[1], source=words[0])
    if to == words[0]:
        raise Refusal("the same file")
    disk.write(to, content)
    return ""


def mv(disk: Disk, words: list[str], piped: str | None) -> str:
    cp(disk, words, None)
    del disk.files[words[0]]
    return ""


def rm(disk: Disk, words: list[str], piped: str | None) -> str:
    path = words[0]
    if path not in disk.files:
        raise Refusal("no such file")
    if path.endswith("/") and any(other.startswith(path) and other != path for other in disk.files):
        raise Refusal("not empty")
    del disk.files[path]
    return ""


def mkdir(disk: Disk, words: list[str], piped: str | None) -> str:
    folder = words[0].removesuffix("/") + "/"
    if not FOLDER.fullmatch(folder):
        raise Refusal("bad name")
    if folder in disk.files:
        raise Refusal("is there already")
    disk.files[folder] = None
    return ""


def replace(disk: Disk, words: list[str], piped: str | None) -> str:
    old, new, path = words
    disk.write(path, " ".join(new if word == old else word for word in disk.read(path).split()))
    return ""


def open_page(disk: Disk, words: list[str], piped: str | None) -> str:
    if words[0] not in disk.pages:
        raise Refusal("no such page")
    disk.history.append(words[0])
    return disk.pages[words[0]]


def follow(disk: Disk, words: list[str], piped: str | None) -> str:
    if words[0] not in disk.links():
        raise Refusal("no such link here")
    return open_page(disk, words, None)


def back(disk: Disk, words: list[str], piped: str | None) -> str:
    if len(disk.history) < 2:
        raise Refusal("no page before")
    disk.history.pop()
    return disk.pages[disk.history[-1]]


def _texts(disk: Disk, paths: list[str]) -> dict[str, str]:
    """The named files' contents, or every file's."""
    return {path: disk.read(path) for path in paths} or disk.texts()


def _given(disk: Disk, paths: list[str], piped: str | None) -> str:
    """What a command reads: the named files, else what is piped in, else every file."""
    return piped if piped is not None and not paths else "\n".join(_texts(disk, paths).values())


MANY = LONGEST_LINE
COMMANDS: dict[str, tuple[int, int, Callable[[Disk, list[str], str | None], str]]] = {  # words: least, most
    "ls": (0, 1, ls),
    "find": (1, 1, find),
    "cat": (1, MANY, cat),
    "grep": (1, MANY, grep),
    "wc": (0, MANY, wc),
    "sum": (0, MANY, total),
    "sort": (0, MANY, sort),
    "head": (1, MANY, head),
    "echo": (0, MANY, echo),
    "open": (1, 1, open_page),
    "follow": (1, 1, follow),
    "back": (0, 0, back),
    "cp": (2, 2, cp),
    "mv": (2, 2, mv),
    "rm": (1, 1, rm),
    "mkdir": (1, 1, mkdir),
    "replace": (3, 3, replace),
}
