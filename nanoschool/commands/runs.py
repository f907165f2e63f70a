"""runs: the commands about a run: make one, talk to it, measure it, write its report."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanoschool.commands import target
from nanoschool.places import existing_run, finished_stage, writable
from nanoschool.plan import Settings
from nanoschool.types import UserError

INTERRUPTED = 130


def run(args: Sequence[str]) -> int:
    """run PRESET    take a model through the school, or go on where that run was left"""
    from nanoschool.settings import load_settings, presets

    if not args or args[0] in ("-h", "--help"):
        print(
            "usage: nanoschool run PRESET [flags]\n\nFlags of a preset: nanoschool run PRESET --help\n\nPresets:"
        )
        print("\n".join(f"  {name:<9} {first_comment(path)}" for name, path in presets().items()))
        return 0
    if args[0].startswith("-"):
        raise UserError(
            "nanoschool run PRESET: which preset? Its name comes first; all: nanoschool run --help"
        )
    settings = load_settings(args[0], args[1:])
    writable(settings.runs_dir)
    return carried_out(settings)


def carried_out(settings: Settings) -> int:
    """Do what the settings say, and write the report; returns the exit status."""
    from nanoschool import run as school
    from nanoschool.interrupt import Interrupted
    from nanoschool.progress import watcher

    show = watcher(sys.stdout)
    try:
        folder = school.run(settings, show)
    except Interrupted as stop:
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

    name, options = target("chat", args, Chat(), "run")
    folder = existing_run(options.runs_dir, name)
    stage, raw = finished_stage(folder, options.stage)
    from nanoschool.finished import load_policy

    talk(load_policy(folder, stage), options, raw)
    return 0


def evaluate(args: Sequence[str]) -> int:
    """eval RUN      measure a stage of a run on worlds, with intervals and n; --policy oracle|random|echo for none"""
    from nanoschool.commands.measure import measure

    return measure(args)


@dataclass(frozen=True)
class Report:
    """Write a run's report again: one self-contained page."""

    runs_dir: Path = Path("runs")  # where run folders are


def report(args: Sequence[str]) -> int:
    """report RUN    write a run's report again, one self-contained page, and print where it is"""
    name, options = target("report", args, Report(), "run")
    folder = existing_run(options.runs_dir, name)
    from nanoschool.report import write

    print(write(folder))
    return 0


def first_comment(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()
