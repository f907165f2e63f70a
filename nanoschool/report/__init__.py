"""The report of a run: a run folder in, one self-contained page out. A leaf: it reads files, nothing imports it."""

import os
import tempfile
from pathlib import Path

from nanoschool.report.page import render
from nanoschool.report.reading import read
from nanoschool.types import UserError


def write(run_dir: Path) -> Path:
    """Write `run_dir`/report.html from the files in `run_dir`, finished or not, and return its path.

    The page holds its style and its charts, so it can be mailed or opened offline. It appears whole or not at all.
    Raises UserError if the folder is no run folder or one of its files is malformed or the page cannot be written; an older
    report then stays.
    """
    page = render(read(Path(run_dir)))
    target = Path(run_dir) / "report.html"
    replaced(target, page)
    return target


def replaced(target: Path, page: str) -> None:
    """Put a page in the place of an older one. Raises UserError where it cannot be written; the older one then stays."""
    try:
        _replace(target, page)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{target}: cannot be written ({reason}); make room, or move what is in the way"
        ) from None


def _replace(target: Path, page: str) -> None:
    with tempfile.NamedTemporaryFile(
        "w", dir=target.parent, prefix=".report-", encoding="utf-8", delete=False
    ) as file:
        try:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)  # a temporary file is private; a report is to be shown
            os.replace(file.name, target)
        finally:
            Path(file.name).unlink(missing_ok=True)  # there only if the disk was full or the rename failed
