"""The worlds: the folder is the registry, and a file that exports WORLD is a world.

A world's file is named as it is loaded: `load("chain")` imports envs/chain.py. What else is loaded: a path that ends in
.py; a file of questions, .jsonl or .parquet, or a folder of such (`./gsm8k`); and `rg:chain_sum`, `ta:Nim-v0`, `gym:ID`,
`openenv:URL`, `vf:NAME`, each by its file in adapters/.
"""

import ast
import difflib
import importlib
from pathlib import Path

from nanoschool.envs import adapters
from nanoschool.types import Environment, UserError
from nanoschool.userfile import import_file

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The worlds of this folder, sorted. Modules without a WORLD (what worlds share) are none."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if _is_world(path))


def describe() -> dict[str, str]:
    """The first docstring line of every world, by name; read from the source, so nothing is imported."""
    lines = {}
    for name in names():
        doc = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text("utf-8"))) or ""
        lines[name] = doc.partition("\n")[0]
    return lines


def phrase(world: Environment) -> str:
    """What a world of ours is, in the first line of its file; "" of other worlds."""
    package, _, name = type(world).__module__.rpartition(".")
    return describe().get(name, "").removeprefix(f"{name}: ") if package == __name__ else ""


def is_elsewhere(name: str) -> bool:
    """Is a world of this name, if there is one, loaded from somewhere else than this folder?"""
    prefix, colon, _ = name.partition(":")
    if colon and prefix in adapters.prefixes():
        return True
    return name.endswith((".py", ".jsonl", ".parquet")) or (
        not _is_world(FOLDER / f"{name}.py") and Path(name).is_dir()
    )


def load(name: str) -> Environment:
    """The world of that name, or of that file (`./mine.py`), with its default settings.

    Raises UserError for a name that is none (with the nearest one), for a file that exports no WORLD, and with its line
    for one that raises as it is imported.
    """
    prefix, colon, rest = name.partition(":")
    if colon and prefix in adapters.prefixes():
        return importlib.import_module(f"{adapters.__name__}.{prefix}").world(rest)
    if name.endswith(".py"):
        return _load_file(Path(name))
    if name.endswith((".jsonl", ".parquet")) or (
        Path(name).is_dir() and not _is_world(FOLDER / f"{name}.py")
    ):
        return importlib.import_module(f"{adapters.__name__}.questions").read(name)
    if not _is_world(FOLDER / f"{name}.py"):
        known = names()
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        others = ", ".join(f"{prefix}:…" for prefix in adapters.prefixes())
        raise UserError(
            f"unknown world {name!r}: did you mean {near[0]!r}? There are: {', '.join(known)}; {others}; "
            "a .py, .jsonl or .parquet file"
        )
    return importlib.import_module(f"{__name__}.{name}").WORLD


def _load_file(path: Path) -> Environment:
    module = import_file(path, "world")
    if not hasattr(module, "WORLD"):
        raise UserError(
            f"world {path}: the file exports no WORLD; end it with a line such as WORLD = MyWorld()"
        )
    return module.WORLD


def _is_world(path: Path) -> bool:
    """Is this a file of ours that assigns WORLD? Read from the source, for importing all of them would take time."""
    if path.parent != FOLDER or not path.is_file():
        return False
    body = ast.parse(path.read_text("utf-8")).body
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    targets += [node.target for node in body if isinstance(node, ast.AnnAssign)]
    return any(isinstance(target, ast.Name) and target.id == "WORLD" for target in targets)
