"""Manifest: the seal of a folder, written last: every file's size and SHA-256, and its own.

Its own, so that a flipped bit in the manifest is not blamed on another file.
"""

import hashlib
import json
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nanoschool.types import UserError

FORMAT = 1
MANIFEST = "manifest.json"


class Broken(Exception):
    """A folder is not what was written: `path` is the file at fault, `reason` what is wrong with it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def manifest_of(files: Mapping[str, bytes], name: str, serial: int) -> bytes:
    """The content of manifest.json for a folder of `files`."""
    listed = {
        f: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for f, data in files.items()
    }
    return _sealed({"format": FORMAT, "name": name, "serial": serial, "files": listed})


def read_manifest(path: Path) -> dict[str, Any]:
    """A folder's manifest. Raises Broken; UserError where another version wrote it."""
    file = path / MANIFEST
    data = _read(file)
    try:
        manifest = json.loads(data)
        if data != _sealed({key: value for key, value in manifest.items() if key != "sha256"}):
            raise ValueError("its own SHA-256 differs")
    except (ValueError, AttributeError):
        raise Broken(file, "is not what was written (SHA-256 differs)") from None
    if manifest["format"] != FORMAT:
        raise UserError(
            f"{path}: checkpoint format {manifest['format']}, but this program reads format {FORMAT}; "
            "use the version that wrote it"
        )
    return manifest


def read_whole(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest and the bytes of every file it lists, each compared with its size and hash."""
    manifest, files = read_manifest(path), {}
    for name, written in manifest["files"].items():
        data = files[name] = _read(path / name)
        if len(data) != written["bytes"]:
            raise Broken(path / name, f"has {len(data)} bytes, {written['bytes']} were written")
        if hashlib.sha256(data).hexdigest() != written["sha256"]:
            raise Broken(path / name, "is not what was written (SHA-256 differs)")
    return manifest, files


def seal(path: Path, there: Iterable[str], to_come: Mapping[str, bytes]) -> bytes:
    """The manifest of a folder: files that are there, which may be larger than memory, and some yet to be written."""
    listed = {name: {"sha256": digest(path / name)} for name in there}
    listed |= {name: {"sha256": hashlib.sha256(data).hexdigest()} for name, data in to_come.items()}
    return _sealed({"format": FORMAT, "name": path.name, "files": listed})


def check_seal(path: Path) -> None:
    """Compare a folder with what `seal` wrote, a piece at a time. Raises Broken with the file that differs."""
    for name, written in read_manifest(path)["files"].items():
        if digest(path / name) != written["sha256"]:
            raise Broken(path / name, "is not what was written (SHA-256 differs)")


def as_json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(data), indent=1).encode()


def _sealed(body: dict[str, Any]) -> bytes:
    """A manifest that holds its own hash, so that a flipped bit in it is not blamed on another file."""
    return as_json(body | {"sha256": hashlib.sha256(as_json(body)).hexdigest()})


def digest(file: Path) -> str:
    with _explained(file), open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read(file: Path) -> bytes:
    with _explained(file):
        return file.read_bytes()


@contextmanager
def _explained(file: Path) -> Generator[None]:
    try:
        yield
    except FileNotFoundError:
        raise Broken(file, "is missing") from None
    except OSError as error:
        raise Broken(file, f"cannot be read ({error.strerror})") from None
