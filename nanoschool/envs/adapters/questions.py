"""questions: a file of questions and answers as a world, JSONL or Parquet, GSM8K's form too (Cobbe et al. 2021, 2110.14168).

A row is {"question": …, "answer": …}. An answer may be worked: `16 - 3 = <<16-3=13>>13 … #### 13`; then what stands after
the last #### is the answer, and the calculator's notes in << >> are no part of the words. A reply is right if what stands
after its last ####, else all of it, is that answer: numbers by value (1,000 is 1000.0), words by their letters.

One file is split by question, a tenth to test and a tenth to dev. A folder with train.jsonl and test.jsonl is split as
its files say: without a dev file a tenth of train is dev, and a train question that is also asked in test is left out.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from nanoschool.envs.adapters import package
from nanoschool.envs.common import require, split_of
from nanoschool.types import SPLITS, Ask, Episode, Message, Outcome, Task, TooFew, UserError

SUFFIXES = (".jsonl", ".parquet")
MARK = "####"
ENOUGH = 50  # questions, for a tenth of them to be at least one: all but one time in two hundred
NOTE = re.compile(r"<<([^<>]{0,200})>>")  # a call of the calculator and its result
NUMBER = re.compile(
    r"\$?([+-]?(?:[0-9]{1,3}(?:,[0-9]{3}){1,5}|[0-9]{1,18})(?:\.[0-9]{0,12})?|[+-]?\.[0-9]{1,12})%?\.?"
)


@dataclass(frozen=True)
class Questions:
    """The questions of `path`, a file or a folder; `by_split` is read from it."""

    path: str
    by_split: Mapping[str, Sequence[Task]] = field(init=False, repr=False, compare=False)

    replayable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_split", _by_split(self.path))

    @property
    def name(self) -> str:
        return self.path

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        """`count` of the split's questions in an order of the seed's; a longer draw begins with the shorter one."""
        require(split in SPLITS, self.name, f"unknown split {split!r}; write one of {', '.join(SPLITS)}")
        tasks = list(self.by_split[split])
        require(count == 0 or bool(tasks), self.name, self._has_none(split))
        if count > len(tasks):
            have = f"holds {len(tasks)} {split} questions, {count} were asked for; ask for fewer"
            raise TooFew(f"world {self.name}: {have}", len(tasks))
        Random(f"{split}/{seed}").shuffle(tasks)
        return tasks[:count]

    def _has_none(self, split: str) -> str:
        """What to do about it."""
        if Path(self.path).is_dir():
            return f"its files hold no {split} questions; add some, dev ones to train or to a dev.jsonl"
        lines = sum(map(len, self.by_split.values()))
        return (
            f"has no {split} question among {lines}, for a tenth go to test and a tenth to dev; write about {ENOUGH}"
            " lines, or give a folder with train.jsonl and test.jsonl"
        )

    def play(self, task: Task) -> Episode:
        reply = yield Ask(task.data["question"])
        correct = same(final(reply.text), task.data["answer"])
        feedback = "" if correct else f"the answer is {task.data['answer']}"
        return Outcome((float(correct),), feedback, {"correct": correct, "wellformed": MARK in reply.text})

    def demonstration(self, task: Task) -> list[Message]:
        """The file's own answer, its working with it, without the calculator's notes."""
        worked = task.data["worked"]
        right = f"{worked}\n{MARK} {task.data['answer']}" if worked else f"{MARK} {task.data['answer']}"
        return [Message("user", task.data["question"]), Message("assistant", right)]

    def steps(self, reply: str) -> list[int]:
        """A step is a line of the working."""
        body = reply[: reply.rfind(MARK)] if MARK in reply else reply
        ends = [at + 1 for at, character in enumerate(body) if character == "\n"]
        return ends if not body or ends[-1:] == [len(body)] else [*ends, len(body)]


def read(path: str) -> Questions:
    """The world of a file or a folder.

    Raises UserError with file and line for what is no question, for a folder without a file of a split, and where the extra
    `parquet` is missing.
    """
    return Questions(path)


def _by_split(path: str) -> dict[str, list[Task]]:
    place = Path(path)
    if place.is_dir():
        files = {split: _file(place, split) for split in SPLITS}
        if files["train"] is None or files["test"] is None:
            raise UserError(
                f"{path}: a folder of questions needs train and test, each .jsonl or .parquet; add them"
            )
        by_split = {split: list(_tasks(path, file)) if file else [] for split, file in files.items()}
        asked = {task.problem for task in by_split["test"]}
        by_split["dev"] = [task for task in by_split["dev"] if task.problem not in asked]
        asked |= {task.problem for task in by_split["dev"]}
        train = [task for task in by_split["train"] if task.problem not in asked]
        if files["dev"] is None:
            by_split["dev"] = [task for task in train if split_of(task.problem) == "dev"]
            train = [task for task in train if split_of(task.problem) != "dev"]
        return by_split | {"train": train}
    tasks = list(_tasks(path, place))
    return {split: [task for task in tasks if split_of(task.problem) == split] for split in SPLITS}


def final(reply: str) -> str:
    """What stands after the last #### of a reply, else all of it."""
    return reply.rpartition(MARK)[2].strip()


def same(one: str, other: str) -> bool:
    """Are two answers equal: as numbers where both are, else as words, whatever their case and spaces?"""
    a, b = number(one), number(other)
    if a is not None and b is not None:
        return a == b
    return one.casefold().split() == other.casefold().split() and (a is None) == (b is None)


def number(text: str) -> Decimal | None:
    """The number that a whole text is, `$1,000.50` and `72.` included; None where it is none of a decent length."""
    found = NUMBER.fullmatch(text) if len(text) <= 40 else None
    return Decimal(found[1].replace(",", "")) if found else None


def _file(folder: Path, split: str) -> Path | None:
    found = [folder / f"{split}{suffix}" for suffix in SUFFIXES if (folder / f"{split}{suffix}").is_file()]
    if len(found) > 1:
        raise UserError(f"{folder}: holds {found[0].name} and {found[1].name}; leave one of them")
    return found[0] if found else None


def _tasks(world: str, path: Path) -> Iterator[Task]:
    """The file's questions, each once: one that is asked again with another answer is an error."""
    seen: dict[str, str] = {}
    for place, row in _rows(path):
        question, given = _field(place, row, "question"), _field(place, row, "answer")
        worked, mark, answer = given.rpartition(MARK)
        if not answer.strip():
            raise UserError(
                f"{place}: its answer is empty{f' after {MARK}' if mark else ''}; write the answer there"
            )
        problem = " ".join(question.split())
        if problem not in seen:
            data = {
                "question": question,
                "answer": answer.strip(),
                "worked": NOTE.sub("", worked).strip(),
                "at": place,
            }
            yield Task(world, problem, data)
        elif not same(seen[problem], answer.strip()):
            raise UserError(f"{place}: asks a question again with another answer; keep one of the two")
        seen.setdefault(problem, answer.strip())


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """(path:number, row) of every row of a file."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a .jsonl or .parquet file, or a folder of them")
    if path.suffix == ".parquet":
        parquet = package("pyarrow.parquet", "parquet")
        try:
            rows = parquet.read_table(path).to_pylist()
        except (ValueError, OSError) as error:
            raise UserError(
                f"{path}: is no Parquet file ({str(error).splitlines()[0]}); export it again"
            ) from None
        yield from ((f"{path}:row {at}", row) for at, row in enumerate(rows, 1))
        return
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: is not UTF-8 text at byte offset {error.start}; convert it to UTF-8"
        ) from None
    for at, line in enumerate(text.split("\n"), 1):  # not splitlines: U+2028 may stand inside a JSON string
        if line.strip():
            try:
                yield f"{path}:{at}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f'{path}:{at}: is not JSON ({error}); each line must be {{"question": "…", "answer": "…"}}'
                ) from None


def _field(place: str, row: Any, key: str) -> str:
    found = row.get(key) if isinstance(row, dict) else None
    if isinstance(found, int | float) and not isinstance(found, bool) and key == "answer":
        found = str(found)
    if not isinstance(found, str) or not found.strip():
        raise UserError(
            f'{place}: has no "{key}" that is a text; each row needs a "question" and an "answer"'
        )
    return found
