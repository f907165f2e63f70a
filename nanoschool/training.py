"""training: the settings of `train`: one method, in one world or on a file, from a start, as a run of a single stage.

What the run of the start was made with goes on: its worlds with their settings, its shares of reading and demonstrations
to replay, and what was measured of it, so that what is forgotten shows.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from nanoschool import envs, methods
from nanoschool.core.fitting import Fitting
from nanoschool.core.sampling import EXACT, Sampling
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.options import flat, parse, struct
from nanoschool.plan import Evaluation, Lora, Settings, Stage, checked
from nanoschool.settings import by_world, with_flags_of, with_worlds
from nanoschool.start import Origin, find_start
from nanoschool.types import Environment, HasDemonstrations, HasDocuments, UserError

STAGE = "train"  # the name of the one stage
USAGE = "nanoschool train METHOD"


@dataclass(frozen=True)
class Training:
    """Teach a model by one method, in one world or on a file of yours, and measure it before and after."""

    start: Annotated[str, arg(name="from")] = ""  # RUN, RUN:STAGE, or a folder of Qwen3 or Llama weights
    budget: str = ""  # flops=… | rollouts=… | seconds=… | tokens=… | bits=…
    env: str = ""  # the world: a name, ./mine.py, a file of questions, rg:…, ta:…, gym:…, openenv:…, vf:…
    # a .jsonl of comparisons, judged replies or conversations, in place of a world's
    data: Path | None = None
    teacher: str = ""  # RUN or RUN:STAGE that is imitated, where the method has a teacher
    reward: str = ""  # FILE.py:FUNCTION that pays while practising, in place of the world; dev and test stay the world's
    # RUN, RUN:STAGE or a checkpoint whose reward model pays in place of the world (RLHF)
    reward_model: str = ""
    pessimism: float = 0.0  # of an ensemble: its members' mean, less so many of their standard deviations
    # rank of adapters that are trained in place of all weights; try ten times the learning rate
    lora: int = 0
    lora_alpha: float = Lora.alpha  # what they add is scaled by alpha / rank
    lora_matrices: tuple[str, ...] = Lora.matrices  # of every layer, that have one
    name: str = ""  # of the run's folder; METHOD-ENV unless given
    runs_dir: Path = Path("runs")  # where run folders are
    seed: int = 1  # of everything that is drawn
    # tokens that it can see at once; 0: as many as its start, 2,048 of somebody else's weights
    context: int = 0
    check: int = 10  # steps between looks at the dev split
    save: int = 10  # steps between checkpoints
    device: str = "auto"  # auto, cpu, cuda or mps
    threads: int = 0  # 0: as many as OMP_NUM_THREADS says, else as the machine has
    allow_inexact: bool = False  # go on with a run of another machine, though not to the same bits
    # are passes of training compiled by torch.compile? auto: on a GPU, where the budget is long enough to repay it
    fitting: Fitting = "auto"

    sampling: Sampling = EXACT
    evaluation: Evaluation = field(default_factory=Evaluation)


def training(use: str, flags: Sequence[str] = (), **options: Any) -> Settings:
    """The settings of `nanoschool train USE FLAGS`; `use` is the name of a method, or the path of a .py file.

    `options` are flags as keywords: training("rloo", env="chain", start="laptop:sft", budget="flops=1e12",
    method={"lr": 1e-4}). Raises UserError on what cannot be meant or done: an unknown name or flag, a start that is not
    there, a world that lacks what the method learns from.
    """
    flags = [*flags, *_as_flags(options)]
    kind, runs_dir = methods.load(use), Path(_word(flags, "--runs-dir") or Training.runs_dir)
    context = _word(flags, "--context")
    length = int(context) if context and context.isdecimal() else 0
    try:
        origin = find_start(_word(flags, "--from") or "", runs_dir, length)
    except UserError:
        if {"-h", "--help"} & set(flags):  # which tells of its worlds' flags, too, where there is a start
            _asked(use, kind, Training(), Settings(), flags)
        raise
    base = _base(origin, _word(flags, "--env") or "", kind)
    options, own, worlds = _asked(use, kind, Training(evaluation=base.evaluation), base, flags)
    if not options.budget:
        raise UserError(f"{USAGE}: how long? --budget flops=… | rollouts=… | seconds=… | tokens=… | bits=…")
    stage = Stage(use, options.budget, own, options.env, options.reward, options.check, options.save)
    if options.reward_model:
        judge = find_start(options.reward_model, runs_dir).start.path
        stage = replace(stage, judge=judge, pessimism=options.pessimism)
    settings = replace(
        base,
        preset=f"train {use}",
        name=options.name or _name(use, options),
        **{key: getattr(options, key) for key in KEPT},
        lora=Lora(options.lora, options.lora_alpha, options.lora_matrices),
        stages={STAGE: stage},
        worlds=worlds,
    )
    return checked(with_worlds(settings), f"train {use}")


KEPT = (
    "runs_dir",
    "seed",
    "device",
    "threads",
    "allow_inexact",
    "fitting",
    "sampling",
    "evaluation",
)  # options that Settings have too


def _asked(
    use: str, kind: type[Any], default: Training, base: Settings, flags: Sequence[str]
) -> tuple[Any, Any, dict[str, Environment]]:
    """(the options, the method with its settings, the worlds with theirs); --help prints all flags and leaves."""
    parts = {"method": _fitted(kind, base), "worlds": by_world(base.worlds)}
    hints = {name: type(part) for name, part in parts.items()}
    usage = f"nanoschool train {use}"
    options = parse(struct(Training, hints, vars(default) | parts), flags, usage)
    chosen, known = options.method, {f.name for f in fields(kind)}
    if options.data is not None:
        if "data" not in known:
            raise UserError(f"{usage}: it learns from no file; leave out --data")
        chosen = replace(chosen, data=options.data.absolute())
    if options.pessimism and not options.reward_model:
        raise UserError(f"{usage}: --pessimism is about a judge's members; name one by --reward-model")
    if not options.lora and (options.lora_alpha, options.lora_matrices) != (
        default.lora_alpha,
        default.lora_matrices,
    ):
        raise UserError(f"{usage}: --lora-alpha and --lora-matrices shape adapters; give their --lora rank")
    if options.context < 0:
        raise UserError(f"{usage}: --context {options.context} must be 0 (as the start has it) or above")
    if options.teacher:
        if "teacher" not in known:
            raise UserError(f"{usage}: it has no teacher; leave out --teacher")
        chosen = replace(chosen, teacher=_teacher(options, base))
    return options, chosen, with_flags_of(base.worlds, options.worlds)


def _teacher(options: Any, base: Settings) -> str:
    """FOLDER:STAGE of the run that --teacher names. UserError where it reads other tokens than the start."""
    teacher = find_start(options.teacher, options.runs_dir)
    path, start = Path(teacher.start.path), Path(base.start.path)
    if teacher.settings is None:
        raise UserError(f"--teacher {options.teacher}: is no run; name RUN or RUN:STAGE")
    if Tokenizer.load(path).spec != Tokenizer.load(start).spec:
        raise UserError(
            f"--teacher {options.teacher}: has another tokenizer than {start}; it must read the student's tokens"
        )
    return f"{path.parents[1]}:{path.name}"


def _base(origin: Origin, env: str, use: type[Any]) -> Settings:
    """The settings that flags go over: those of the start's run, with the world beside its others."""
    run = origin.settings or Settings()
    measured = tuple(dict.fromkeys([*([env] if env else []), *run.evaluation.worlds]))
    base = Settings(
        start=origin.start,
        model=origin.model,
        mix=run.mix,
        taught=run.taught,
        worlds=run.worlds,
        evaluation=replace(run.evaluation, worlds=measured),
    )
    if env and not use.needs_env:  # what it reads or imitates is the world that was asked for
        world = base.worlds.get(env) or envs.load(env)
        draws = use().draws_on()[:1]
        if "taught" in draws and isinstance(world, HasDemonstrations):
            base = replace(base, taught={env: 1.0})
        if "mix" in draws and isinstance(world, HasDocuments):
            base = replace(base, mix={env: 1.0})
    worlds = base.worlds | ({env: base.worlds.get(env) or envs.load(env)} if env else {})
    return with_worlds(replace(base, worlds=worlds))


def _fitted(use: type[Any], base: Settings) -> Any:
    """The method as it is where nothing is said of it: without replay where the start's run has nothing to replay."""
    own = use()
    there = {"taught": base.taught, "mix": base.mix}
    if getattr(own, "replay", 0) and not there[own.draws_on()[-1]]:
        return replace(own, replay=0)
    return own


def _as_flags(options: Mapping[str, Any]) -> list[str]:
    """Keywords as flags: start="a" is --from a, method={"lr": 1} is --method.lr 1."""
    words = []
    for key, value in flat(options).items():
        flag = "--from" if key == "start" else f"--{key.replace('_', '-')}"
        words += [flag, *(map(str, value) if isinstance(value, (list, tuple)) else [str(value)])]
    return words


def _name(use: str, options: Any) -> str:
    """Of a run's folder: the method and what it learns from, in letters that every file system takes."""
    source = options.env or (options.data.stem if options.data else "")
    words = [Path(word).stem if word.endswith(".py") else word for word in (use, source) if word]
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in "-".join(words)).strip(".-")


def _word(flags: Sequence[str], flag: str) -> str | None:
    """The value of a flag that other flags follow from: it must be known before they can be."""
    words = [word for item in flags for word in (item.split("=", 1) if item.startswith(flag) else [item])]
    after = [value for word, value in itertools.pairwise(words) if word == flag]
    return after[-1] if after else None
