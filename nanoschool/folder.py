"""folder: a run is files. Metrics and samples a line a step, whole files by rename, one process at a time.

A checkpoint remembers how long the line files were; a resume cuts them back to that, so no step is told twice.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nanoschool.core.files import explained, write_atomic
from nanoschool.core.manifest import MANIFEST, Broken, check_seal, seal
from nanoschool.types import UserError

CONFIG = "config.toml"
LINES = ("metrics.jsonl", "samples.jsonl")


class Folder:
    """runs/NAME, held by this process until it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        with explained(path):
            path.mkdir(parents=True, exist_ok=True)
            self._lock = open(path / ".lock", "w")  # noqa: SIM115 (held until we are closed)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{path}: another process is working on this run; wait for it or use another --name"
            ) from None
        self._open: dict[str, Any] = {}

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *error: object) -> None:
        for file in (*self._open.values(), self._lock):
            with suppress(OSError):  # a line that did not fit on the disk was told of when it was written
                file.close()

    @property
    def begun(self) -> bool:
        """Whether a run was begun here: its settings are written last, when all that it needs is there."""
        return (self.path / CONFIG).exists()

    def begin(self, config: str) -> None:
        """Write the settings, last; before them the hashes of all that the run will go on from."""
        prepared = [file for pattern in ("tokenizer/[!.]*", "text-*") for file in self.path.glob(pattern)]
        names = sorted(str(file.relative_to(self.path)) for file in prepared)
        data = config.encode()
        write_atomic(self.path / MANIFEST, seal(self.path, names, {CONFIG: data}))
        write_atomic(self.path / CONFIG, data)

    def check_begun(self) -> None:
        """Raise UserError where the settings, the tokenizer or the user's text are no longer what the run began with."""
        try:
            check_seal(self.path)
        except Broken as reason:
            raise UserError(f"{reason}; restore it, or give the run another --name") from None

    def append(self, name: str, record: Mapping[str, Any]) -> None:
        """One JSON line, handed to the system at once: a kill of this process loses none of it."""
        with explained(self.path / name):
            if name not in self._open:
                self._open[name] = open(self.path / name, "ab")  # noqa: SIM115 (stays open)
            self._open[name].write(json.dumps(record).encode() + b"\n")
            self._open[name].flush()

    def lengths(self) -> dict[str, int]:
        """Bytes in each line file, for a checkpoint to remember."""
        sizes = {}
        for name in LINES:
            path = self.path / name
            sizes[name] = path.stat().st_size if path.exists() else 0
        return sizes

    def cut(self, lengths: Mapping[str, int]) -> list[str]:
        """Take the line files back to what a checkpoint remembers; returns those that had lost lines since."""
        short = []
        for name in LINES:
            path, length = self.path / name, lengths.get(name, 0)
            size = path.stat().st_size if path.exists() else 0
            if size < length:
                short.append(name)
                length = path.read_bytes().rfind(b"\n") + 1 if size else 0  # half a line is none
            if path.exists():
                with explained(path):
                    os.truncate(path, length)
        return short

    def write_json(self, name: str, data: Mapping[str, Any]) -> None:
        write_atomic(self.path / name, json.dumps(data, indent=1).encode())

    def read_json(self, name: str) -> dict[str, Any]:
        """What `write_json` wrote, {} where it never did."""
        path = self.path / name
        if not path.exists():
            return {}
        try:
            data = json.loads(path.read_text())
            if not isinstance(data, dict):
                raise ValueError("it is no object")
            return data
        except (ValueError, OSError) as error:
            raise UserError(
                f"{path}: is not what was written ({error}); restore it, or give the run another --name"
            ) from None
