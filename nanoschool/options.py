"""options: dataclasses from TOML tables and from flags (tyro, MIT); a wrong name gets one line, with the nearest."""

import difflib
import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass, make_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from nanoschool.types import UserError


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error: the nearest known word if one is near, else all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are: {', '.join(known)}." if known else "there are none."


def parse(default: Any, args: Sequence[str], prog: str, description: str | None = None) -> Any:
    """`default`, a dataclass, with the fields that `args` set: `--rl.method.lr 1e-4` sets default.rl.method.lr.

    `--help` prints every field with its comment and leaves with SystemExit(0). Raises UserError on an unknown flag
    or a value that does not fit.
    """
    import tyro

    said = io.StringIO()
    try:
        with redirect_stderr(said):
            read, unknown = tyro.cli(
                type(default),
                default=default,
                args=list(args),
                prog=prog,
                description=description,
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(
            f"{prog}: {_first_paragraph(said.getvalue())}; {prog} --help shows all flags"
        ) from None
    if unknown and unknown[0].startswith("-"):
        flag = unknown[0].partition("=")[0].replace("_", "-")
        raise UserError(
            f"{prog}: unknown flag {flag}: {nearest(flag, _flags(default))} {prog} --help shows all flags"
        )
    if unknown:
        raise UserError(f"{prog}: {unknown[0]!r} is one word too many; {prog} --help shows all flags")
    return read


def fill(base: Any, table: Any, where: str) -> Any:
    """`base`, a dataclass, with the fields that a TOML table names; a dataclass inside takes the table inside.

    Raises UserError on an unknown key or a value of another type than the field's.
    """
    if not isinstance(table, dict):
        raise UserError(f"{where}: is {table!r}, must be a table")
    hints, changes = get_type_hints(type(base)), {}
    for key, value in table.items():
        if key not in {f.name for f in fields(base)}:
            raise UserError(f"{where}: unknown key {key!r}: {nearest(key, (f.name for f in fields(base)))}")
        old = getattr(base, key)
        inside = is_dataclass(old) and not isinstance(old, type)
        changes[key] = (
            fill(old, value, f"{where} {key}") if inside else _fit(hints[key], value, f"{where} {key}")
        )
    return replace(base, **changes)


def plain(value: Any) -> Any:
    """A dataclass as TOML can hold it: tables, lists, numbers, strings; fields that are None are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
    if isinstance(value, Mapping):
        return {str(key): plain(inside) for key, inside in value.items() if inside is not None}
    if isinstance(value, (list, tuple)):
        return [plain(inside) for inside in value]
    if not isinstance(
        value, (str, int, float, Path)
    ):  # a world of the user's that is no dataclass has no settings
        return {}
    return str(value) if isinstance(value, Path) else value


def flat(table: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested tables as one, keys joined by dots."""
    leaves: dict[str, Any] = {}
    for key, value in table.items():
        leaves |= flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return leaves


def struct(base: type, hints: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """An instance of a dataclass made for these values: `base`'s fields, and those of `hints`, added or retyped."""
    source = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
    }  # where tyro reads the comments
    fresh = make_dataclass(
        base.__name__, list(hints.items()), bases=(base,), namespace=source, frozen=True, kw_only=True
    )
    fresh.__doc__ = base.__doc__
    return fresh(**values)


def _fit(hint: Any, value: Any, where: str) -> Any:
    """A TOML value as the type that a field is annotated with."""
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        kind = next(
            a for a in inside if a is not type(None)
        )  # `Path | None`: TOML has no None, it leaves the key out
        return _fit(kind, value, where)
    if kind is Literal:
        if value in inside:
            return value
        raise UserError(f"{where}: is {value!r}; {nearest(str(value), inside)}")
    if kind is float and type(value) in (int, float):
        return float(value)
    if kind is tuple and isinstance(value, list):
        each = inside[:1] * len(value) if inside[1:] == (...,) else inside
        if inside and len(each) != len(value):
            raise UserError(f"{where}: has {len(value)} values, must have {len(each)}")
        return tuple(_fit(e, v, where) for e, v in zip(each or [Any] * len(value), value, strict=True))
    if kind is dict and isinstance(value, dict):
        return {key: _fit(inside[1] if inside else Any, v, f"{where}.{key}") for key, v in value.items()}
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is Any or type(value) is kind:
        return value
    raise UserError(f"{where}: is {value!r}, must be {_words(kind)}")


def _words(kind: Any) -> str:
    return {
        int: "a whole number",
        float: "a number",
        str: "text in quotes",
        bool: "true or false",
        tuple: "a list",
    }.get(kind, str(kind))


def _flags(value: Any, path: str = "--") -> list[str]:
    """Every flag that a dataclass makes, e.g. --rl.method.lr."""
    if not is_dataclass(value):
        return [path]
    dot = "" if path == "--" else "."
    return [
        f
        for k in fields(value)
        for f in _flags(getattr(value, k.name), f"{path}{dot}{k.name.replace('_', '-')}")
    ]


def _first_paragraph(box: str) -> str:
    """What tyro says in a framed box, as one line: the first paragraph, without the frame."""
    lines = []
    for line in box.splitlines():
        inner = line.strip().strip("│").strip()
        if inner.startswith("─"):
            break
        if not inner.startswith(("╭", "╰")):
            lines.append(inner)
    return " ".join(lines).strip().rstrip(".")
