"""places: the folders that a command names: where runs are, one run, a stage of it that is over."""

import os
import tempfile
from pathlib import Path

from nanoschool.options import nearest
from nanoschool.types import UserError


def existing_run(runs_dir: Path, name: str) -> Path:
    """The folder of a run. Raises UserError, with the nearest name, where there is none."""
    if not _is_file(runs_dir / name / "config.toml"):
        known = [path.parent.name for path in runs_dir.glob("*/config.toml")]
        raise UserError(f"no run {name!r} in {runs_dir}: {nearest(name, known)}")
    return runs_dir / name


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file system takes
        return False


def writable(runs_dir: Path, flag: str = "--runs-dir") -> None:
    """Make the folder that `flag` names and try to write in it. Raises UserError where that fails."""
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=runs_dir):
            return
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UserError(f"{flag} {runs_dir}: cannot be written: {reason}; name another folder") from None


def finished_stage(folder: Path, asked: str | None) -> tuple[str | None, bool]:
    """(a stage that is over, has it only read?): the one asked for, else the last one there is.

    None for the stage: the first one is still under way. Raises UserError where the one asked for is not there.
    """
    from nanoschool.settings import load_run

    settings = load_run(folder)
    stages = settings.course
    there = [stage for stage in stages if (folder / "checkpoints" / stage).exists()]
    if asked is not None and asked not in stages:
        raise UserError(f"run {folder.name!r} has no stage {asked!r}: {nearest(asked, stages)}")
    if asked is not None and asked not in there:
        raise UserError(f"run {folder.name!r} has not finished its stage {asked!r}: {nearest(asked, there)}")
    stage = asked or (there[-1] if there else None)
    return stage, not settings.converses(stage or stages[0])
