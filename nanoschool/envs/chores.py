"""chores: what there is to do at the desk (envs/desk.py): one function a kind of chore, drawn at a size.

A chore is a disk, its goal, the words that ask for it, and how one does it who knows only what was shown: `looks`,
in order, each a line and the phrases that it brings to light (the last that was seen makes the earlier ones
needless), and then `acts`, in any order. Every act changes what no other does, so the plan's length is exact.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from nanoschool.envs.common import words

Content = dict[str, str | None]
Look = tuple[str, list[str]]

NAMES = words(
    "ash elm oak fir bay fig ivy yew pine lime palm rose fern moss reed sage mint corn bean rice"
    " plum pear peach lemon olive onion apple melon berry grape"
)
COLOURS = words("red blue green black white brown pink grey")
THINGS = words("cup hat key lamp coin rope drum kite bell boat ring sock comb fork bowl jar")
PLACES = words("mill barn lake hill farm park road cave dock gate well yard shop inn camp fort pier moor")
FOLDERS = words("box bag old new")
ENDINGS = words("txt log doc")


@dataclass(frozen=True)
class Chore:
    ask: str
    files: Content
    goal: Content
    acts: list[str]
    looks: list[Look] = field(default_factory=list)
    pages: dict[str, str] = field(default_factory=dict)


def rename(rng: Random, size: int) -> Chore:
    """mv each file of one ending to another; ls tells which there are."""
    old, new, other = rng.sample(ENDINGS, 3)
    stems = _names(rng, size)
    mine, rest = stems[:size], stems[size:]
    files: Content = {f"{stem}.{old}": _thing(rng) for stem in mine} | {
        f"{stem}.{other}": _thing(rng) for stem in rest
    }
    goal = {path.replace(f".{old}", f".{new}"): content for path, content in files.items()}
    acts = [f"mv {stem}.{old} {stem}.{new}" for stem in sorted(mine)]
    look = ("ls", [f"{stem}.{old}" for stem in mine])
    return Chore(f"rename every .{old} file to .{new}", files, goal, acts, [look])


def move(rng: Random, size: int) -> Chore:
    """mv each file that holds a word into a folder that is there; grep tells which they are."""
    colour, mine, files = _coloured(rng, size)
    folder = f"{rng.choice(FOLDERS)}/"
    goal = {f"{folder}{path}" if path in mine else path: content for path, content in files.items()}
    acts = [f"mv {path} {folder}" for path in sorted(mine)]
    ask = f"move every file with {colour} to {folder}"
    return Chore(
        ask, files | {folder: None}, goal | {folder: None}, acts, [(f"grep {colour}", _lines(files, mine))]
    )


def copy(rng: Random, size: int) -> Chore:
    """cp each file that holds a word into a folder that is yet to be made."""
    colour, mine, files = _coloured(rng, size)
    folder = f"{rng.choice(FOLDERS)}/"
    goal = files | {folder: None} | {f"{folder}{path}": files[path] for path in mine}
    acts = [f"mkdir {folder}", *(f"cp {path} {folder}" for path in sorted(mine))]
    ask = f"make {folder} and copy every file with {colour} to it"
    return Chore(ask, files, goal, acts, [(f"grep {colour}", _lines(files, mine))])


def remove(rng: Random, size: int) -> Chore:
    """rm each empty file; wc tells which they are."""
    stems = _names(rng, size)
    mine = stems[:size]
    files: Content = {stem: "" if stem in mine else _thing(rng) for stem in stems}
    goal: Content = {path: content for path, content in files.items() if content}
    acts = [f"rm {path}" for path in sorted(mine)]
    return Chore("remove every empty file", files, goal, acts, [("wc", [f"{path}: 0" for path in mine])])


def fix(rng: Random, size: int) -> Chore:
    """replace a word by another in each file that holds it."""
    colour, mine, files = _coloured(rng, size)
    new = rng.choice(THINGS)
    goal = {path: " ".join(new if word == colour else word for word in (content or "").split())
            for path, content in files.items()}  # fmt: skip
    acts = [f"replace {colour} {new} {path}" for path in sorted(mine)]
    ask = f"write {new} for {colour} in every file"
    return Chore(ask, files, dict(goal), acts, [(f"grep {colour}", _lines(files, mine))])


def add(rng: Random, size: int) -> Chore:
    """Write the sums of `size` + 1 colours' numbers, each to a file: a pipe does it without a look."""
    asked = rng.sample(COLOURS, size + 1)
    owners = [*asked, *(rng.choice(COLOURS) for _ in range(rng.randint(1, 3)))]
    stems = rng.sample(NAMES, len(owners))
    numbers = [(colour, rng.randint(1, 20)) for colour in owners]
    files: Content = {stem: f"{colour} {n}" for stem, (colour, n) in zip(stems, numbers, strict=True)}
    sums = {colour: sum(n for c, n in numbers if c == colour) for colour in asked}
    acts = [f"grep {colour} | sum > {colour}.sum" for colour in asked]
    ask = "sum " + ", ".join(f"{colour} to {colour}.sum" for colour in asked)
    return Chore(ask, files, files | {f"{c}.sum": str(n) for c, n in sums.items()}, acts)


def sort(rng: Random, size: int) -> Chore:
    """Write the first words, by the alphabet, of each file of one ending to a file of its own."""
    stems = _names(rng, size)
    mine, rest = stems[:size], stems[size:]
    ending, other = rng.sample(ENDINGS, 2)
    texts = {f"{stem}.{ending if stem in mine else other}": rng.sample(THINGS, 3) for stem in [*mine, *rest]}
    files: Content = {path: " ".join(text) for path, text in texts.items()}
    goal = files | {f"{stem}.top": min(texts[f"{stem}.{ending}"]) for stem in mine}
    acts = [f"sort {stem}.{ending} | head 1 > {stem}.top" for stem in sorted(mine)]
    ask = f"write the first word by alphabet of every .{ending} file to .top"
    return Chore(ask, files, goal, acts, [("ls", [f"{stem}.{ending}" for stem in mine])])


def browse(rng: Random, size: int) -> Chore:
    """Follow `next` from page to page to a fact and write it to a file; `see` leads astray."""
    path = ["home", *rng.sample(PLACES, size)]
    astray = [place for place in PLACES if place not in path]
    fact, *others = rng.sample(THINGS, len(THINGS))
    pages = {}
    for page, onward in pairwise(path):
        pages[page] = f"{page}: next {onward}, see {rng.choice(astray)}"
    pages[path[-1]] = f"{path[-1]}: the word is {fact}"
    for number, page in enumerate(astray):
        pages[page] = f"{page}: the word is {others[number % len(others)]}"
    looks: list[Look] = [("open home", [pages["home"]])]
    looks += [(f"follow {page}", [pages[page]]) for page in path[1:]]
    name = rng.choice(NAMES)
    ask = f"from home follow next to the word and write it to {name}"
    return Chore(ask, {}, {name: fact}, [f"echo {fact} > {name}"], looks, pages)


KINDS: dict[str, Callable[[Random, int], Chore]] = {
    kind.__name__: kind for kind in (rename, move, copy, remove, fix, add, sort, browse)
}
LARGEST = {"add": len(COLOURS) - 1, "browse": len(PLACES) - 2}
MOST = len(NAMES) - 3  # for the others: one to three more names are what is to be left alone


def largest(kind: str) -> int:
    return LARGEST.get(kind, MOST)


def _names(rng: Random, size: int) -> list[str]:
    """The files to do, and one to three that are to be left alone."""
    return rng.sample(NAMES, size + rng.randint(1, 3))


def _thing(rng: Random) -> str:
    return rng.choice(THINGS)


def _lines(files: Content, paths: list[str]) -> list[str]:
    """What grep shows of the files."""
    return [f"{path}: {files[path]}" for path in paths]


def _coloured(rng: Random, size: int) -> tuple[str, list[str], Content]:
    """A colour, the files that hold it, and all files; each holds a colour and a thing, in either order."""
    colour, *others = rng.sample(COLOURS, 3)
    stems = _names(rng, size)
    mine, files = stems[:size], {}
    for stem in rng.sample(stems, len(stems)):
        pair = [colour if stem in mine else rng.choice(others), _thing(rng)]
        files[stem] = " ".join(rng.sample(pair, 2))
    return colour, mine, files
