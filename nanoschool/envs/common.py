"""common: what worlds share: splits by canonical problem, drawing their tasks, reading replies.

Replies are a model's and may be any text, so every pattern here is bounded and nothing raises on them.
"""

import re
from collections.abc import Callable
from random import Random
from zlib import crc32

from nanoschool.types import SPLITS, Task, TooFew, UserError

Sampler = Callable[[Random], Task]

# A number in canonical form. Its length is bounded because int() refuses more than 4300 digits.
NUMBER = r"(?:0|-?[1-9][0-9]{0,8})"
PATIENCE = 5000  # draws in a row that bring nothing new before a world counts as exhausted

_LEADING_NUMBER = re.compile(r"[ \t]*(-?[0-9]{1,9})(?![0-9])")
_LEADING_WORD = re.compile(r"[ \t]*([A-Za-z]{1,32})(?![A-Za-z])")


def split_of(problem: str) -> str:
    """The split that a canonical problem belongs to: a tenth is test, a tenth dev, the rest train."""
    return {0: "test", 1: "dev"}.get(crc32(problem.encode("utf-8")) % 10, "train")


def require(holds: bool, world: str, complaint: str) -> None:
    """Check a world's setting as it is made. Raises UserError with the complaint, which says what to write."""
    if not holds:
        raise UserError(f"world {world}: {complaint}")


def problem_of(task: Task) -> str:
    return task.problem


def draw(
    world: str,
    sampler: Sampler,
    split: str,
    count: int,
    seed: int = 0,
    key: Callable[[Task], str] = problem_of,
) -> list[Task]:
    """`count` tasks of `split`, no two with the same problem; a longer draw begins with the shorter one.

    `world` is its name, which the draw depends on; `key` gives the text that decides a task's split.
    Raises UserError for an unknown split, TooFew when the world has fewer such tasks than asked for.
    """
    if split not in SPLITS:
        raise UserError(f"world {world}: unknown split {split!r}; write one of {', '.join(SPLITS)}")
    rng = Random(f"{world}/{split}/{seed}")
    tasks: dict[str, Task] = {}
    idle = 0
    while len(tasks) < count:
        task = sampler(rng)
        if split_of(key(task)) == split and task.problem not in tasks:
            tasks[task.problem] = task
            idle = 0
        elif (idle := idle + 1) >= PATIENCE:
            raise TooFew(
                f"world {world}: found only {len(tasks)} distinct {split} tasks of the {count} asked"
                " for; ask for fewer, or widen the world's settings",
                len(tasks),
            )
    return list(tasks.values())


def draw_train(sampler: Sampler, rng: Random, *keys: Callable[[Task], str]) -> Task:
    """One task whose every key is of the train split, for a document; `keys` defaults to its problem."""
    for _ in range(PATIENCE):
        task = sampler(rng)
        if all(split_of(key(task)) == "train" for key in keys or (problem_of,)):
            return task
    raise UserError("a world's settings leave it no task in the train split; widen them")


def leading_number(text: str) -> int | None:
    """The integer a text starts with, spaces apart; None where there is none of at most nine digits."""
    found = _LEADING_NUMBER.match(text)
    return int(found[1]) if found else None


def leading_word(text: str) -> str:
    """The word a text starts with, spaces apart; "" where there is none."""
    found = _LEADING_WORD.match(text)
    return found[1] if found else ""


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def common_prefix(one: str, other: str) -> int:
    """How many characters two texts share at the start."""
    for at, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return at
    return min(len(one), len(other))
