"""Files: writes that survive a kill, a power cut and a full disk: a temporary file, fsync, rename.

After any of them a path holds the old content or the new one, never a part.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Generator
from pathlib import Path

from nanoschool.types import UserError


def write_atomic(path: str | Path, data: bytes) -> None:
    """Replace `path` by `data`, or leave it as it was, and raise UserError; folders above it are made."""
    path = Path(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path)
        try:
            write_synced(temporary, data)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def temporary_beside(path: Path) -> Path:
    """A name in the same folder (so that a rename is atomic) that no other process writes to."""
    return path.with_name(f".tmp-{path.name}-{os.getpid()}")


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with open(path, "wb") as file:
        file.write(data)
        sync_file(file.fileno())


def sync_file(descriptor: int) -> None:
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder (a rename, a new file) last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def remove_folder(folder: Path) -> None:
    """Delete a folder; it first loses its name, so that a kill cannot leave half of it under that name."""
    doomed = folder if folder.name.startswith(".tmp-") else temporary_beside(folder)
    if doomed != folder:
        os.rename(folder, doomed)
    shutil.rmtree(doomed)


def abandoned(temporary: Path) -> bool:
    """Whether the process whose id ends the name is gone (or is this one, which is not writing now)."""
    process = temporary.name.rpartition("-")[2]
    if not process.isdecimal():
        return False  # not a name of ours
    if int(process) == os.getpid():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # alive, and another user's
        return False
    return False


FULL = {errno.ENOSPC: "some space", errno.EDQUOT: "some of your quota", errno.EFBIG: "the file size limit"}


@contextlib.contextmanager
def explained(path: Path) -> Generator[None]:
    """Turn an OSError into the one line that a user needs: what failed, where, what to do."""
    try:
        yield
    except OSError as error:
        cause, where = error.strerror or str(error), error.filename or path
        if error.errno in FULL:
            cause = f"disk full: {cause}"
            advice = (
                f"free {FULL[error.errno]} and run the same command again; what was saved before is whole"
            )
        else:
            advice = "choose a folder that you may write to"
        at = "" if str(where) == str(path) else f", at {where}"
        raise UserError(f"{path}: cannot be written ({cause}{at}); {advice}") from error
