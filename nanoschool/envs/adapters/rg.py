"""rg: every task of reasoning-gym by its name, `rg:chain_sum`, through its own scorer (Stojanovski et al. 2025, 2505.24760).

An item is the number of its seed: `create_dataset(task, seed)[i]` is a function of seed and i. Train, dev and test
draw from ranges of numbers that do not meet, and beyond that an item belongs to the split of its question's text,
for different seeds may ask the same. The reply is scored as it stands, or what its last <answer> … </answer> holds.

Some scorers `eval` the reply, or hand it to sympy, which does. Those see only what guard.py lets pass; and a reply that
a scorer raises on, or does not settle in a second, is worth 0. One scorer calls everything right; see CONSTANT.
"""

import ast
import difflib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import Any, ClassVar

from nanoschool.envs.adapters import package
from nanoschool.envs.adapters.guard import Limit, is_finite, is_formula, is_literal, is_sum
from nanoschool.envs.common import PATIENCE, require, split_of
from nanoschool.types import SPLITS, Ask, Episode, Message, Outcome, Task, TooFew, UserError

CHUNK = 100  # items of one dataset; the next has another seed
RANGE = 10_000_000  # item numbers of a split
LONGEST = 20_000  # characters of a reply; a regular expression in a scorer cannot be interrupted
PATIENT = 1.0  # CPU seconds that a scorer may take
EXAMPLES = ("example_correct_answer", "example_answer", "possible_answer")  # where `answer` is None

TRUSTED: Mapping[str, Callable[[str], bool]] = {
    **dict.fromkeys(("string_insertion", "spiral_matrix", "binary_matrix", "n_queens"), is_literal),
    **dict.fromkeys(("countdown", "puzzle24"), is_sum),
    "complex_arithmetic": is_finite,  # nan is right there, whatever the answer
    **dict.fromkeys(
        ("simple_integration", "intermediate_integration", "polynomial_multiplication"), is_formula
    ),
}
CONSTANT = (
    "game_of_life_halting",
)  # its scorer compares bool("False") with bool("True"): all is right, so ours compares
# A composite has no parts of its own.
PARTS = [
    {"name": name, "weight": 1.0, "config": {}} for name in ("chain_sum", "leg_counting", "spell_backward")
]


@dataclass(frozen=True)
class ReasoningGym:
    """One task of reasoning-gym. `config` are fields of the task's own configuration, such as min_terms = 3."""

    task: str
    config: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    replayable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or f"rg:{self.task}")
        _dataset(self.task, _frozen(self.config), 0)  # a wrong name or setting is said here

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        known = ", ".join(SPLITS)
        require(split in SPLITS, self.name, f"unknown split {split!r}; write one of {known}")
        first = SPLITS.index(split) * RANGE
        start = Random(f"{self.name}/{split}/{seed}").randrange(RANGE)
        found: dict[str, Task] = {}
        idle = offset = 0
        while len(found) < count:
            number = first + (start + offset) % RANGE
            offset += 1
            question = self._entry(number)["question"]
            problem = f"{self.name} {' '.join(question.split())}"
            if split_of(problem) == split and problem not in found:
                found[problem] = Task(self.name, problem, {"item": number, "question": question})
                idle = 0
            elif (idle := idle + 1) >= PATIENCE:
                have = f"found only {len(found)} distinct {split} tasks of the {count} asked for"
                raise TooFew(f"world {self.name}: {have}", len(found))
        return list(found.values())

    def play(self, task: Task) -> Episode:
        reply = yield Ask(task.data["question"])
        score, complaint = self._score(task, answer(reply.text))
        return Outcome((score,), info={"correct": score == 1.0, "complaint": complaint})

    def demonstration(self, task: Task) -> list[Message]:
        """The task's own answer; UserError where reasoning-gym gives none."""
        entry = self._entry(task.data["item"])
        given = [entry["answer"], *(entry["metadata"].get(key) for key in EXAMPLES)]
        shown = next((one for one in given if one is not None), None)
        require(
            shown is not None,
            self.name,
            "reasoning-gym gives no answer to this task, only a score; take another world to imitate",
        )
        return [Message("user", task.data["question"]), Message("assistant", _written(shown))]

    def _entry(self, number: int) -> Mapping[str, Any]:
        return _item(self.task, _frozen(self.config), number)

    def _score(self, task: Task, reply: str) -> tuple[float, str]:
        """(score in 0..1, what was wrong with the reply if it could not be scored)."""
        if len(reply) > LONGEST:
            return 0.0, f"longer than {LONGEST} characters"
        if not TRUSTED.get(self.task, len)(reply):
            return 0.0, "no answer of the form that the scorer may see"
        number = task.data["item"]
        if self.task in CONSTANT:
            return float(reply == self._entry(number)["answer"]), ""
        dataset = _dataset(self.task, _frozen(self.config), number // CHUNK)
        try:
            with Limit(PATIENT), redirect_stdout(io.StringIO()):
                score = float(dataset.score_answer(reply, _item(self.task, _frozen(self.config), number)))
        except Exception as error:  # the scorer is theirs and the reply a model's: neither may stop a run
            return 0.0, f"the scorer raised {type(error).__name__}"
        return (min(max(score, 0.0), 1.0), "") if score == score else (0.0, "the scorer gave NaN")


def world(task: str) -> ReasoningGym:
    """The world of a reasoning-gym task. Raises UserError for an unknown one."""
    return ReasoningGym(task)


def names() -> list[str]:
    """Every task that reasoning-gym registers."""
    package("reasoning_gym")
    return sorted(package("reasoning_gym.factory").DATASETS)


def answer(reply: str) -> str:
    """What the last <answer> … </answer> holds, else all of the reply, without space around it."""
    end = reply.rfind("</answer>")
    start = reply.rfind("<answer>", 0, max(end, 0))
    return (reply[start + len("<answer>") : end] if 0 <= start < end else reply).strip()


def _frozen(config: Mapping[str, Any]) -> str:
    return repr(dict(config))


def _written(shown: Any) -> str:
    return shown if isinstance(shown, str) else json.dumps(shown)


@lru_cache(maxsize=64)
def _dataset(task: str, config: str, chunk: int) -> Any:
    """Items CHUNK * chunk to CHUNK * (chunk + 1) - 1."""
    gym = package("reasoning_gym")
    settings = ast.literal_eval(config)
    if task == "composite" and "datasets" not in settings:
        spec = package("reasoning_gym.composite").DatasetSpec
        settings["datasets"] = [spec(**part) for part in PARTS]
    try:
        return gym.create_dataset(task, seed=chunk * CHUNK, size=CHUNK, **settings)
    except (ValueError, TypeError, AssertionError) as error:
        if task not in (known := names()):
            near = difflib.get_close_matches(task, known, n=1, cutoff=0.0)[0]
            raise UserError(f"world rg:{task}: unknown to reasoning-gym: did you mean 'rg:{near}'?") from None
        raise UserError(f"world rg:{task}: config={config}: {error}; mend the setting") from None


@lru_cache(maxsize=4096)
def _item(task: str, config: str, number: int) -> Mapping[str, Any]:
    with redirect_stdout(io.StringIO()):  # one of them prints dots
        return _dataset(task, config, number // CHUNK)[number % CHUNK]
