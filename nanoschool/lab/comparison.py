"""comparison: what is compared, in plain words and numbers, so that every process is told the same; and its arms.

An arm is a method at its best of three learning rates. Beside those asked for stand controls: the same practice paid for
something else than being right, wherever the world lets that be defined.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Suppress, arg

from nanoschool.lab.scripted import perform
from nanoschool.ledger import Budget
from nanoschool.plan import Settings, require_folder_name
from nanoschool.rollout import alone
from nanoschool.training import STAGE, training
from nanoschool.types import Environment, UserError

CONTROLS = ("random_reward", "format_reward", "inverted_reward")
PLAN = "plan.json"
APART = 3.0  # the factor between the learning rates that are tried, around the method's own
RATES = 3  # learning rates tried of each arm
SAID = ("start", "env", "budget", "seeds")  # as flags, always
UNSAID = ("methods", "device", "runs_dir")  # never
TRIAL_SEED = 0  # of the trials; the arms themselves have seeds from 1 on, so none is chosen by


@dataclass(frozen=True)
class Comparison:
    """Set methods against each other: one start, one world, one budget, the same problems and the same seeds."""

    methods: Annotated[tuple[str, ...], Suppress] = ()
    start: Annotated[str, arg(name="from")] = ""  # RUN, RUN:STAGE, or a folder of Qwen3 or Llama weights
    env: str = ""  # the world, as in `train`
    budget: str = ""  # of each arm and seed: flops=… | rollouts=… | tokens=… | bits=… | seconds=…
    seeds: int = 5  # of training, for each arm
    # the three learning rates to try, of every arm; a third, once and thrice its own unless given
    lrs: tuple[float, ...] = ()
    trial_share: float = 0.25  # of the budget, for each learning rate tried (one seed, chosen on dev)
    looks: int = 6  # at dev, at even shares of the budget; the best one's weights sit the test
    dev: int = 100  # problems a look
    problems: int = 200  # of the test, answered greedily
    attempts: int = 16  # at each of `pass_problems` test problems, for pass@k and the distance from the start
    pass_problems: int = 50  # of the test, answered `attempts` times
    elsewhere: int = 60  # test problems of each other world, for what is forgotten
    max_tokens: int = 96  # of a reply, in practice and on the test, of every arm
    device: str = "auto"  # auto, cpu, cuda or mps
    runs_dir: Path = Path("runs")  # where run folders are, and this comparison's

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"runs_dir": str(self.runs_dir)}

    def command(self) -> str:
        """What was asked, with every flag that is not as it would be of itself."""
        words = ["nanoschool compare", *self.methods]
        for field in fields(Comparison):
            value = getattr(self, field.name)
            if field.name in SAID or (value != field.default and field.name not in UNSAID):
                flag = "from" if field.name == "start" else field.name.replace("_", "-")
                words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else [value])]
        return " ".join(words)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> "Comparison":
        values: dict[str, Any] = dict(told)
        for key, kind in (("methods", tuple), ("lrs", tuple), ("runs_dir", Path)):
            values[key] = kind(told[key])
        return cls(**values)


@dataclass(frozen=True)
class Asked(Comparison):
    __doc__ = Comparison.__doc__

    name: str = ""  # of the folder in `runs_dir`; compare-ENV unless given
    processes: int = 2  # that train at once, one thread each

    @property
    def folder(self) -> Path:
        """By its default name in letters that every file system takes."""
        plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in self.env).strip(".-")
        name = self.name or f"compare-{plain}"
        require_folder_name(name, "nanoschool compare")
        return self.runs_dir / name

    def comparison(self, methods: Sequence[str]) -> Comparison:
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(Comparison)}
        values["methods"] = tuple(methods)
        return Comparison(**values)


def planned(root: Path) -> Comparison:
    """What the folder of a comparison says that it is."""
    return Comparison.from_json(json.loads((root / PLAN).read_text(encoding="utf-8"))["comparison"])


@dataclass(frozen=True)
class Arm:
    name: str
    method: str  # a name, or the path of a .py file
    kind: str  # "method" or "control"
    lrs: tuple[float, ...]  # to be tried; none where the method has no learning rate

    def settings(self, comparison: Comparison) -> Settings:
        return settings(comparison, self.method)


@lru_cache(maxsize=64)
def settings(comparison: Comparison, method: str) -> Settings:
    """What one method needs to be trained in this comparison. Raises UserError where it, or the world, lacks something."""
    c = comparison
    words = ["--from", c.start, "--runs-dir", str(c.runs_dir), "--env", c.env, "--budget", c.budget]
    plan = training(method, words)
    stage = plan.stages[STAGE]
    if "max_tokens" in {f.name for f in fields(stage.method)}:
        stage = replace(stage, method=replace(stage.method, max_tokens=c.max_tokens))
    return replace(plan, stages={STAGE: stage})


def arms(comparison: Comparison) -> tuple[list[Arm], dict[str, str]]:
    """(the arms, methods first; why each control that is not among them cannot be had).

    Raises UserError, before anything is spent, on numbers that cannot be meant and on a method or a world that lacks
    what is needed.
    """
    _check(comparison)
    asked = [_arm(comparison, method, "method") for method in comparison.methods]
    names = [arm.name for arm in asked]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"nanoschool compare: {twice[0]} is named twice; give each arm a name of its own")
    plan = asked[0].settings(comparison)
    scored(plan.worlds[comparison.env])
    for name in dict.fromkeys([comparison.env, *plan.evaluation.worlds]):
        here = name == comparison.env
        counts = {"test": comparison.problems if here else comparison.elsewhere, "dev": comparison.dev}
        for split, count in counts.items():  # raises where there are not as many
            plan.worlds[name].tasks(split, count)
    absent, controls = {}, []
    for name in CONTROLS:
        if name in names:
            continue
        try:
            controls.append(_arm(comparison, name, "control"))
        except UserError as reason:
            absent[name] = str(reason)
    return asked + controls, absent


def scored(env: Environment) -> None:
    """Raise UserError where the world does not say how good a reply was."""
    task = env.tasks("train", 1)[0]
    if perform(alone(env, env.play)(task), lambda ask, replies: "").outcome.rewards is None:
        raise UserError(
            f"world {env.name!r} scores nobody, so there is nothing to compare; name another --env"
        )


def _arm(comparison: Comparison, method: str, kind: str) -> Arm:
    own = settings(comparison, method).stages[STAGE].method
    if "lr" not in {f.name for f in fields(own)}:
        rates: Sequence[float] = ()
    else:
        rates = comparison.lrs or [float(f"{own.lr * APART**step:.3g}") for step in (-1, 0, 1)]
    name = Path(method).stem if method.endswith(".py") else method
    return Arm(name, method, kind, tuple(rates))


def _check(c: Comparison) -> None:
    usage = "nanoschool compare"
    if not c.methods:
        raise UserError(f"{usage} METHOD…: which methods? They come first; all: nanoschool --help")
    for flag, value in (("--env", c.env), ("--from", c.start), ("--budget", c.budget)):
        if not value:
            raise UserError(f"{usage}: {flag} is missing; {usage} --help shows all flags")
    try:
        Budget.parse(c.budget, flops_per_second=1.0)
    except ValueError as error:
        raise UserError(f"{usage}: {error}") from None
    if c.lrs and (len(set(c.lrs)) != RATES or not all(0 < lr < float("inf") for lr in c.lrs)):
        raise UserError(
            f"{usage}: --lrs {' '.join(map(str, c.lrs))}: give exactly {RATES} different ones above 0"
        )
    if not 0 < c.trial_share <= 1:
        raise UserError(f"{usage}: --trial-share is {c.trial_share}, must be above 0 and at most 1")
    least = {
        "seeds": 2,
        "looks": 1,
        "dev": 1,
        "problems": 2,
        "attempts": 1,
        "pass_problems": 2,
        "elsewhere": 1,
        "max_tokens": 1,
    }
    for field, value in least.items():
        if getattr(c, field) < value:
            raise UserError(
                f"{usage}: --{field.replace('_', '-')} is {getattr(c, field)}, must be at least {value}"
            )
    if c.pass_problems > c.problems:
        raise UserError(
            f"{usage}: --pass-problems is {c.pass_problems}, but the test has --problems {c.problems}"
        )
