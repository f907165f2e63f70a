"""cli: `nanoschool COMMAND TARGET [flags]`. Says what was wrong in one line; exit status 2 for a user's mistake.

Parsed in two stages: `--help` here reads first docstring lines and imports neither torch nor a flag parser; a command
imports what it runs.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nanoschool
from nanoschool import envs, methods
from nanoschool.options import nearest, parse
from nanoschool.places import existing_run, finished_stage, writable
from nanoschool.types import UserError

USER_MISTAKE, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        if not args or args[0] in ("-h", "--help"):
            print(_help(), flush=True)
            return 0
        if args[0] == "--version":
            print(nanoschool.__version__, flush=True)
            return 0
        if args[0] not in COMMANDS:
            raise UserError(f"no command {args[0]!r}: {nearest(args[0], COMMANDS)} All: nanoschool --help")
        return COMMANDS[args[0]](args[1:])
    except UserError as error:
        print(f"nanoschool: {error}", file=sys.stderr)
        return USER_MISTAKE
    except KeyboardInterrupt:
        print("nanoschool: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough; what is still buffered must not raise again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def run(args: Sequence[str]) -> int:
    """run PRESET    take a model through the school, or go on where that run was left"""
    from nanoschool.settings import load_settings, presets

    if not args or args[0] in ("-h", "--help"):
        print(
            "usage: nanoschool run PRESET [flags]\n\nFlags of a preset: nanoschool run PRESET --help\n\nPresets:"
        )
        print("\n".join(f"  {name:<9} {_first_comment(path)}" for name, path in presets().items()))
        return 0
    settings = load_settings(args[0], args[1:])
    writable(settings.runs_dir)
    from nanoschool import run as school
    from nanoschool.progress import watcher

    show = watcher(sys.stdout)
    try:
        folder = school.run(settings, show)
    except school.Interrupted as stop:
        show.close()
        print(f"nanoschool: interrupted; this goes on where it was: {stop}", file=sys.stderr)
        return INTERRUPTED
    finally:
        show.close()
    from nanoschool.report import write
    from nanoschool.report.plain import lines

    page = write(folder)
    print("\n".join([*lines(folder), str(page)]))
    return 0


def chat(args: Sequence[str]) -> int:
    """chat RUN      talk to a run's model; -p "…" for one answer; --stage for an earlier self"""
    from nanoschool.talk import Chat, talk

    name, options = _target("chat", args, Chat())
    folder = existing_run(options.runs_dir, name)
    stage, raw = finished_stage(folder, options.stage)
    from nanoschool.run import load_policy

    talk(load_policy(folder, stage), options, raw)
    return 0


@dataclass(frozen=True)
class Eval:
    """Measure a stage of a run on worlds: each score with its 95 % interval and n."""

    stage: str | None = None  # pretrain, sft, rl; the last one there is, unless given
    worlds: tuple[str, ...] = ()  # those of the run's settings, unless given
    n: int = 400  # test problems a world
    runs_dir: Path = Path("runs")  # where run folders are


def evaluate(args: Sequence[str]) -> int:
    """eval RUN      measure a stage of a run on worlds, with intervals and n"""
    name, options = _target("eval", args, Eval())
    folder = existing_run(options.runs_dir, name)
    if options.n < 1:
        raise UserError(f"nanoschool eval: --n is {options.n}, must be at least 1")
    stage, _ = finished_stage(folder, options.stage)
    worlds = options.worlds or _evaluated(folder)
    from nanoschool.run import evaluate_run

    for path, score in _scores(evaluate_run(folder, stage, list(worlds), options.n)):
        print(f"{path:<40} {score['mean']:6.3f}  [{score['low']:.3f}, {score['high']:.3f}]  n={score['n']}")
    return 0


@dataclass(frozen=True)
class Report:
    """Write a run's report again: one self-contained page."""

    runs_dir: Path = Path("runs")  # where run folders are


def report(args: Sequence[str]) -> int:
    """report RUN    write a run's report again, one self-contained page, and print where it is"""
    name, options = _target("report", args, Report())
    folder = existing_run(options.runs_dir, name)
    from nanoschool.report import write

    print(write(folder))
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "run": run,
    "chat": chat,
    "eval": evaluate,
    "report": report,
}


def _target(command: str, args: Sequence[str], default: Any) -> tuple[str, Any]:
    """(RUN, flags) of a command that is about a run."""
    usage = f"nanoschool {command} RUN"
    if args and args[0] in ("-h", "--help"):
        return "", parse(default, ["--help"], usage)
    if not args or args[0].startswith("-"):
        raise UserError(f"{usage}: which run? Its name comes first; flags: nanoschool {command} --help")
    return args[0], parse(default, args[1:], usage)


def _evaluated(folder: Path) -> tuple[str, ...]:
    from nanoschool.settings import load_run

    return load_run(folder).evaluation.worlds


def _scores(found: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every estimate (a table with mean, low, high and n) in nested tables, with its path."""
    if {"mean", "low", "high", "n"} <= found.keys():
        yield path, found
    for key, inside in found.items():
        if isinstance(inside, Mapping):
            yield from _scores(inside, f"{path} {key}".strip())


def _first_comment(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()


def _help() -> str:
    from nanoschool.settings import presets

    lines = [nanoschool.__doc__ or "", "", "Commands (flags of each: nanoschool COMMAND --help):"]
    lines += [f"  {command.__doc__}" for command in COMMANDS.values()]
    lines += ["", "Presets:"] + [f"  {name:<9} {_first_comment(path)}" for name, path in presets().items()]
    for title, known in (("Methods", methods.describe()), ("Worlds", envs.describe())):
        lines += ["", f"{title}:"] + [f"  {line}" for line in known.values()]
    return "\n".join(lines)
