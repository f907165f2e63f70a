"""measure: `nanoschool eval`, of a stage of a run or of a scripted policy, on worlds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from nanoschool import envs
from nanoschool.commands import say_fewer, target
from nanoschool.options import parse
from nanoschool.places import existing_run, finished_stage
from nanoschool.types import HasOracle, UserError

Policy = Literal["oracle", "random", "echo"]


@dataclass(frozen=True)
class Eval:
    """Measure a stage of a run, or with --policy no run, on worlds: each score with its 95 % interval and n."""

    stage: str | None = None  # pretrain, sft, rl; the last one there is, unless given
    # the worlds to measure: those of the run's settings (with --policy all of ours), unless given
    worlds: Annotated[tuple[str, ...], arg(aliases=["--env"])] = ()
    n: Annotated[int, arg(aliases=["-n"])] = 400  # test problems a world, or as many as there are
    samples: int = 1  # attempts at each problem; several say pass@1 and pass@SAMPLES too
    temperature: float = 0.0  # of the attempts; 0: greedy
    policy: Policy | None = None  # who plays in place of a run; no RUN is given then
    runs_dir: Path = Path("runs")  # where run folders are


def measure(args: Sequence[str]) -> int:
    """Print the scores; returns the exit status."""
    name = ""
    if args and args[0].startswith("-") and any(word.startswith("--policy") for word in args):
        options = parse(Eval(), args, "nanoschool eval")
    else:
        name, options = target("eval", args, Eval(), "run")
    if options.n < 1:
        raise UserError(f"nanoschool eval: --n is {options.n}, must be at least 1")
    if not 0 <= options.temperature < float("inf"):
        raise UserError(f"nanoschool eval: --temperature is {options.temperature}, must be 0 or more")
    if options.samples < 1 or (options.samples > 1 and not options.temperature):
        raise UserError(
            f"nanoschool eval: --samples is {options.samples}, must be at least 1, and greedy attempts are all alike: "
            "more of them need a --temperature"
        )
    if options.policy is not None:
        drawn = f"--temperature {options.temperature}" if options.temperature else ""
        for word, what in (
            (drawn, drawn),
            (name, f"run {name!r}"),
            (options.stage, f"--stage {options.stage}"),
        ):
            if word:
                raise UserError(
                    f"nanoschool eval: --policy {options.policy} plays in place of a run: leave out {what}, or --policy"
                )
        return _scripted(options.policy, options.worlds or envs.names(), options.n)
    folder = existing_run(options.runs_dir, name)
    stage, _ = finished_stage(folder, options.stage)
    worlds = options.worlds or _evaluated(folder)
    from nanoschool.finished import evaluate_run, sample_run

    if options.temperature:
        found = sample_run(folder, stage, list(worlds), options.n, options.samples, options.temperature)
    else:
        found = evaluate_run(folder, stage, list(worlds), options.n)
    for world, ways in found.items():
        say_fewer(world, "test", next(iter(ways.values()))["n"], options.n)
    for path, score in _scores(found):
        _print(path, score)
    return 0


def _scripted(policy: str, names: Sequence[str], n: int) -> int:
    """Each world's score, and beside it V*: what perfect play earns."""
    from nanoschool.lab.scripted import estimate, scores, tasks_of

    for name in names:
        env = envs.load(name)
        tasks = tasks_of(env, "test", n)
        say_fewer(env.name, "test", len(tasks), n)
        score = estimate(scores(env, policy, tasks)).to_json()
        best = [env.oracle(task, []).value for task in tasks] if isinstance(env, HasOracle) else []
        _print(env.name, score, f"  V*={sum(best) / len(best):.3f}" if best else "")
    return 0


def _evaluated(folder: Path) -> tuple[str, ...]:
    from nanoschool.settings import load_run

    return load_run(folder).evaluation.worlds


def _scores(found: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every estimate (a table with mean and n, and an interval where there can be one) in nested tables, with its path."""
    if {"mean", "n"} <= found.keys():
        yield path, found
    for key, inside in found.items():
        if isinstance(inside, Mapping):
            yield from _scores(inside, f"{path} {key}".strip())


def _print(path: str, score: Mapping[str, Any], more: str = "") -> None:
    between = f"[{score['low']:.3f}, {score['high']:.3f}]" if "low" in score else "[all alike]"
    print(f"{path:<40} {score['mean']:6.3f}  {between}  n={score['n']}{more}")
