"""The methods: the folder is the registry, and a file that exports METHOD is a method.

A method's file is named as it is loaded: `load("rloo")` imports methods/rloo.py. A path that ends in .py is a user's own.
"""

import ast
import difflib
import importlib
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from nanoschool.types import UserError
from nanoschool.userfile import import_file

FOLDER = Path(__file__).parent


def describe() -> dict[str, str]:
    """The first docstring line of every method, by name; read from the source, so nothing is imported."""
    lines = {}
    for path in sorted(FOLDER.glob("[!_]*.py")):
        module = ast.parse(path.read_text("utf-8"))
        targets = [t for node in module.body if isinstance(node, ast.Assign) for t in node.targets]
        if any(isinstance(target, ast.Name) and target.id == "METHOD" for target in targets):
            lines[path.stem] = (ast.get_docstring(module) or "").partition("\n")[0]
    return lines


def load(name: str) -> type[Any]:
    """The class of the method of that name, or of that file (`./mine.py`).

    Raises UserError for a name that is none (with the nearest one), for a file that exports no METHOD, and with its line
    for one that raises as it is imported.
    """
    if name.endswith(".py"):
        return _load_file(Path(name))
    known = list(describe())
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        raise UserError(
            f"unknown method {name!r}: did you mean {near[0]}? There are: {', '.join(known)}; a .py file"
        )
    return importlib.import_module(f"{__name__}.{name}").METHOD


def _load_file(path: Path) -> type[Any]:
    found = vars(import_file(path, "method")).get("METHOD")
    if not isinstance(found, type) or not is_dataclass(found):
        raise UserError(
            f"method {path}: the file exports no METHOD that is a dataclass; end it with a line such as METHOD = MyMethod"
        )
    if not issubclass(found, importlib.import_module(f"{__name__}.base").Method):  # late: it takes torch
        raise UserError(
            f"method {path}: {found.__name__} is no nanoschool.methods.base.Method; derive it from that, or from a method"
        )
    without = [
        f.name for f in fields(found) if f.init and f.default is MISSING and f.default_factory is MISSING
    ]
    if without:
        raise UserError(f"method {path}: {without[0]} has no default; give each of its fields one")
    return found
