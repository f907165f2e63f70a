"""JSON files whose mistakes have an address: every wrong entry is reported with its file, line and path."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nanoschool.types import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Node:
    """A JSON object that knows where it stands: `where` is its file (and line), `path` the keys that lead to it."""

    data: Mapping[str, Any]
    where: str
    path: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.data)

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def node(self, key: str) -> "Node":
        """The object under `key`; an empty one where there is none. Raises UserError where it is something else."""
        return Node(self._typed(key, dict, "an object") or {}, self.where, (*self.path, key))

    def number(self, key: str) -> float | None:
        return self._typed(key, (int, float), "a number")

    def text(self, key: str) -> str | None:
        return self._typed(key, str, "a text")

    def flag(self, key: str) -> bool | None:
        return self._typed(key, bool, "true or false")

    def list(self, key: str, kind: type | tuple[type, ...]) -> list[Any]:
        items = self._typed(key, list, "a list") or []
        if not all(isinstance(item, kind) for item in items):
            raise self.error("an entry of this list has the wrong type", key)
        return items

    def error(self, what: str, *keys: str) -> UserError:
        place = ": ".join(filter(None, [self.where, ".".join([*self.path, *keys])]))
        return UserError(f"{place}: {what}; delete or mend the file")

    def _typed(self, key: str, kind: type | tuple[type, ...], words: str) -> Any:
        value = self.data.get(key)
        # JSON's true is Python's int 1: a number must not be a bool.
        if value is None or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool))):
            return value
        raise self.error(f"expected {words}, found {value!r:.40}", key)


def text(path: Path) -> str:
    """The UTF-8 text of a file. Raises UserError with the byte offset where it is not UTF-8."""
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; delete or mend the file") from None


def read_object(path: Path, missing: list[str]) -> Node:
    """The object in a JSON file; an empty one, and its name added to `missing`, where there is no such file."""
    if not path.exists():
        missing.append(path.name)
        return Node({}, str(path))
    return _object(text(path), path)


def read_lines(path: Path, parse: Callable[[Node], T], missing: list[str]) -> list[T]:
    """The objects of a JSON-lines file, each parsed; `missing` says where there is no file or its end is torn off."""
    if not path.exists():
        missing.append(path.name)
        return []
    whole, _, torn = text(path).rpartition("\n")
    if torn.strip():  # every line is written with its newline: this one was cut off by a kill
        missing.append(f"the last line of {path.name} (torn off while it was written)")
    lines = enumerate(whole.split("\n"), start=1)
    return [parse(_object(line, path, number)) for number, line in lines if line.strip()]


def _object(line: str, path: Path, number: int | None = None) -> Node:
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        at = f"line {number or error.lineno}, column {error.colno}"
        raise UserError(f"{path}, {at}: not JSON ({error.msg}); delete or mend the file") from None
    where = f"{path}, line {number}" if number else str(path)
    if not isinstance(data, dict):
        raise UserError(f"{where}: expected an object, found {data!r:.40}; delete or mend the file")
    return Node(data, where)
