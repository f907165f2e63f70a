"""plans: how far a disk is from a goal, exactly, and which commands bring it nearer.

One line of the shell changes one path, or two where mv takes a file away and puts it elsewhere, and `echo … >` puts any
content anywhere. So the distance is the number of paths that differ, less the pairs of a file too many and a file
missing or wrong that agree in content (one mv each). That order of work is always possible: folders are made first and
removed last, and a folder's name is never a file's. Tests hold it against a search through the command lines.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from nanoschool.envs.disk import Disk
from nanoschool.envs.shell import run

Files = Mapping[str, str | None]


def distance(files: Files, goal: Files) -> int:
    """The least number of lines that turn `files` into `goal`, for one who knows both."""
    extra = [path for path in files if path not in goal]
    wrong = wrong_paths(files, goal)
    spare = Counter(files[path] for path in extra if not path.endswith("/"))
    wanted = Counter(goal[path] for path in wrong if not path.endswith("/"))
    return len(extra) + len(wrong) - (spare & wanted).total()


def wrong_paths(files: Files, goal: Files) -> list[str]:
    """What the goal has and the files lack or hold otherwise."""
    return [path for path, content in goal.items() if path not in files or files[path] != content]


def nearer(files: Files, goal: Files, acts: Sequence[str]) -> list[str]:
    """Lines that come one nearer: those of `acts` that do; where none does, one that mends what went wrong."""
    at = distance(files, goal)
    if found := [act for act in acts if after(files, goal, act) == at - 1]:
        return found
    return next(([line] for line in _mending(files, goal) if after(files, goal, line) == at - 1), [])


def after(files: Files, goal: Files, line: str) -> int:
    """The distance once a line is done."""
    disk = Disk(dict(files), {})
    run(disk, line)
    return distance(disk.files, goal)


def difference(files: Files, goal: Files) -> str:
    """The first thing that is not as it should be, in words; "" where all is."""
    for path in sorted({*files, *goal}):
        if path not in goal:
            return f"{path} should not be there"
        if path not in files:
            return f"{path} is missing"
        if files[path] != goal[path]:
            return f"{path} holds {_quoted(files[path])}, not {_quoted(goal[path])}"
    return ""


def _mending(files: Files, goal: Files) -> list[str]:
    """For each difference the plainest line against it; folders that are missing come first, folders too many last."""
    wrong, extra = wrong_paths(files, goal), [path for path in files if path not in goal]
    made = [f"mkdir {path}" for path in wrong if path.endswith("/")]
    moved = [
        f"mv {source} {path}"
        for path in wrong
        for source in extra
        if not path.endswith("/") and files[source] == goal[path]
    ]
    written = [f"echo {goal[path]} > {path}" for path in wrong if not path.endswith("/")]
    removed = [f"rm {path}" for path in sorted(extra, key=lambda path: path.endswith("/"))]
    return made + moved + written + removed


def _quoted(content: str | None) -> str:
    text = content or "nothing"
    return text if len(text) <= 40 else f"{text[:37]}..."
