"""humaneval: 164 Python functions to complete from their docstrings, judged by unit tests (2107.03374).

"Evaluating Large Language Models Trained on Code" (Chen et al. 2021, https://arxiv.org/abs/2107.03374). The file is the
authors' HumanEval.jsonl or .jsonl.gz, given by path; a user's own world is `WORLD = HumanEval("HumanEval.jsonl.gz")` in a
file. All problems are of the test split. What we changed: the checks run apart from the program (envs/boxed.py), and
where they call the function by its own name (HumanEval/33 does) they get the canonical solution, not the program.
"""

import gzip
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import ClassVar

from nanoschool.envs import judged
from nanoschool.envs.common import require
from nanoschool.types import SPLITS, Ask, Episode, Message, Outcome, Task, TooFew, UserError

FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")  # that end a function's body: section 3.2 of the paper
FENCE = re.compile(r"```[a-z0-9]{0,12}\n(.*?)(?:```|\Z)", re.DOTALL)


@dataclass(frozen=True)
class HumanEval:
    """The problems of the file at `path`; a program has `seconds` for all checks of a problem."""

    path: str
    seconds: float = 5.0
    name: str = "humaneval"

    replayable: ClassVar[bool] = True
    formats: ClassVar[tuple[str, ...]] = ("continued",)

    def __post_init__(self) -> None:
        require(0 < self.seconds <= 600, self.name, f"seconds={self.seconds} must be above 0 and at most 600")

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        """`count` problems in the seed's order. Raises UserError for another split than test, TooFew for too many."""
        require(split in SPLITS, self.name, f"unknown split {split!r}; write one of {', '.join(SPLITS)}")
        require(
            split == "test",
            self.name,
            f"has no {split} split, for a benchmark is not learned from; ask for test",
        )
        rows = problems(self.path)
        if count > len(rows):
            have = f"{self.path} has {len(rows)} problems; ask for no more than that"
            raise TooFew(f"world {self.name}: {have}", len(rows))
        order = Random(f"{self.name}/{seed}").sample(range(len(rows)), count)
        return [Task(self.name, rows[at]["task_id"], rows[at]) for at in order]

    def play(self, task: Task) -> Episode:
        """Asked the prompt; the reply is the function's body, or the whole function, in a ``` fence or not."""
        reply = yield Ask(task.data["prompt"])
        return self._judge(task, reply.text)

    def complete(self, task: Task, format: str) -> Episode:
        """The prompt as raw text, gone on with up to the end of the function."""
        assert format in self.formats, format
        reply = yield Ask(task.data["prompt"], role="text", stop=STOPS)
        ends = [at for stop in STOPS if (at := reply.text.find(stop)) >= 0]
        return self._judge(task, reply.text[: min(ends, default=None)])

    def demonstration(self, task: Task) -> list[Message]:
        return [Message("user", task.data["prompt"]), Message("assistant", task.data["canonical_solution"])]

    def _judge(self, task: Task, reply: str) -> Outcome:
        row = task.data
        check = f"{row['prompt']}{row['canonical_solution']}\n{row['test']}"
        ran = judged.passes(
            program(row["prompt"], row["entry_point"], reply), row["entry_point"], check, self.seconds
        )
        return Outcome((float(ran.ok),), ran.text, {"correct": ran.ok})


def program(prompt: str, entry_point: str, reply: str) -> str:
    """What a reply makes of the prompt: its body, or, after what the prompt imports and defines, the function anew."""
    fenced = FENCE.search(reply)
    code = fenced[1] if fenced else reply
    whole = re.search(rf"^def {entry_point}\b", code, re.MULTILINE) is not None
    return f"{prompt}\n    pass\n\n{code}" if whole else f"{prompt}{code}"


@cache
def problems(path: str) -> list[dict[str, str]]:
    """The file's rows. Raises UserError where there is no such file, or where a line is not such a problem."""
    if not Path(path).is_file():
        raise UserError(f"world humaneval: there is no file {path}; give the path of HumanEval.jsonl.gz")
    try:
        content = Path(path).read_bytes()
        text = (gzip.decompress(content) if path.endswith(".gz") else content).decode("utf-8")
    except (gzip.BadGzipFile, zlib.error, EOFError, UnicodeDecodeError):
        raise UserError(
            f"world humaneval: {path} is no UTF-8 JSONL, plain or as .gz; fetch it anew"
        ) from None
    return [_problem(path, at, line) for at, line in enumerate(text.split("\n"), 1) if line.strip()]


def _problem(path: str, at: int, line: str) -> dict[str, str]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    fine = isinstance(row, dict) and all(isinstance(row.get(field), str) for field in FIELDS)
    if not fine or not row["entry_point"].isidentifier():
        raise UserError(f"world humaneval: {path}:{at} is no problem; it needs the texts {', '.join(FIELDS)}")
    return {field: row[field] for field in FIELDS}


def world(path: str) -> HumanEval:
    """`humaneval:PATH`: the benchmark of that file."""
    require(bool(path), "humaneval", "needs the benchmark's file: write humaneval:HumanEval.jsonl.gz")
    return HumanEval(path)
