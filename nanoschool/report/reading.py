"""Reading a run folder: plain files in, one Run out; what is not there yet is named, what is broken is refused.

A run that is still going, or was killed, has fewer files and a last line that may be torn off. That is no mistake and
lands in `Run.missing`. A file whose content is not what it should be raises UserError with its path and line.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from nanoschool.ledger import Cost, Ledger
from nanoschool.report.node import Node, read_lines, read_object, text
from nanoschool.types import UserError

STAGES = (
    "start",
    "pretrain",
    "sft",
    "rl",
)  # in the order of the school; others follow in the order of their appearance


@dataclass(frozen=True)
class Step:
    """One line of metrics.jsonl: what a step of training logged, or a look at dev between two steps."""

    stage: str
    step: int
    progress: float | None
    metrics: Mapping[str, float]
    dev: Mapping[str, float]
    drift: Node  # of a stage that a judge pays: how far it came, the judge's score, gold, its first reply


@dataclass(frozen=True)
class Look:
    """A look at a stage that a judge pays."""

    stage: str
    step: int
    drift: Node


@dataclass(frozen=True)
class Sample:
    """One line of samples.jsonl: what a stage, when it was over, said to a test problem, and how probable each token
    was. `way` is the answer format that it was asked in."""

    stage: str
    world: str
    way: str
    prompt: str
    reply: str
    reward: float | None
    tokens: list[str]
    probabilities: list[float]


@dataclass(frozen=True)
class Run:
    """All that a report needs. `settings` is the text of config.toml; `missing` says in words what is not there yet."""

    folder: Path
    steps: list[Step]
    samples: list[Sample]
    ledger: Ledger
    settings: str
    summary: Node
    missing: list[str]

    @property
    def stages(self) -> list[str]:
        """Stages that have left a trace, in the order of the school."""
        seen = dict.fromkeys([s.stage for s in self.steps] + list(self.summary.node("stages")))
        return [s for s in STAGES if s in seen] + [s for s in seen if s not in STAGES]

    def curve(self, stage: str, name: str, source: str = "metrics") -> tuple[list[int], list[float]]:
        """Steps and finite values of one number; `source` is "metrics" (of training) or "dev"."""
        rows = [(s.step, s.metrics if source == "metrics" else s.dev) for s in self.steps if s.stage == stage]
        points = [(step, row[name]) for step, row in rows if name in row and math.isfinite(row[name])]
        return [p[0] for p in points], [p[1] for p in points]

    def looked_at(self, stage: str, what: str) -> int | None:
        """How many "tokens", "bytes" or "problems" of each world every look at dev took; of older runs, None."""
        counts = self.curve(stage, what, "dev")[1]
        return int(counts[-1]) if counts else None

    def fraction(self, stage: str, step: int) -> float:
        """How far through its budget a stage was after `step` steps; a look at dev logs only the step."""
        return max(
            (s.progress or 0.0 for s in self.steps if s.stage == stage and s.step <= step), default=0.0
        )

    @property
    def looks(self) -> list[Look]:
        """How far the stages that a judge pays had come, look by look."""
        return [Look(s.stage, s.step, s.drift) for s in self.steps if s.drift]

    @property
    def rewarded(self) -> list[str]:
        """Stages that learn from a reward: what they minimise says nothing, what they earn does."""
        return [stage for stage in self.stages if self.curve(stage, "reward")[0]]


def read(folder: Path) -> Run:
    """Read `folder`. Raises UserError if it is no run folder or one of its files is malformed."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder; `nanoschool run` makes one")
    if not any((folder / name).exists() for name in ("config.toml", "metrics.jsonl", "summary.json")):
        raise UserError(f"{folder}: not a run folder (no config.toml, metrics.jsonl or summary.json in it)")
    missing: list[str] = []
    settings = _settings(folder / "config.toml", missing)
    run = Run(
        folder=folder,
        steps=read_lines(folder / "metrics.jsonl", _step, missing),
        samples=read_lines(folder / "samples.jsonl", _sample, missing),
        ledger=_ledger(read_object(folder / "ledger.json", missing)),
        settings=settings,
        summary=read_object(folder / "summary.json", missing),
        missing=missing,
    )
    evaluated = run.summary.node("stages")
    for stage in tomllib.loads(settings).get("stages", STAGES[1:]):
        if stage not in run.stages:
            missing.append(f"the stage {stage} (not begun)")
        elif stage not in evaluated:
            missing.append(f"the evaluation after {stage}")
    return run


def _step(row: Node) -> Step:
    stage, step = row.text("stage"), row.number("step")
    if stage is None or step is None:
        raise row.error("a step needs a stage and a step")
    metrics, dev = row.node("metrics"), row.node("dev")
    drift = row.node("drift")
    return Step(stage, int(step), row.number("progress"), _numbers(metrics), _numbers(dev), drift)


def _numbers(node: Node) -> dict[str, float]:
    return {key: value for key in node if (value := node.number(key)) is not None}


def _sample(row: Node) -> Sample:
    tokens, probabilities = row.list("tokens", str), row.list("probabilities", (int, float))
    if len(tokens) != len(probabilities):
        raise row.error(f"{len(tokens)} tokens but {len(probabilities)} probabilities")
    texts = [row.text(key) or "" for key in ("stage", "world", "way", "prompt", "reply")]
    return Sample(*texts, row.number("reward"), tokens, probabilities)


def _ledger(node: Node) -> Ledger:
    known = {f.name for f in fields(Cost)}
    accounts = {name: _numbers(node.node(name)) for name in node}
    for name, cost in accounts.items():
        if unknown := cost.keys() - known:
            raise node.error(f"unknown cost {min(unknown)!r}; known are {', '.join(sorted(known))}", name)
    return Ledger.from_json(accounts)


def _settings(path: Path, missing: list[str]) -> str:
    if not path.exists():
        missing.append(path.name)
        return ""
    settings = text(path)
    try:
        tomllib.loads(settings)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not TOML: {error}; mend the file") from None
    return settings
