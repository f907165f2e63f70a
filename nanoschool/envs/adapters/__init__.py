"""Adapters: other people's worlds as ours, and ours as theirs. The folder is the registry here too.

A file that defines `world` is named as it is loaded: `load("rg:chain_sum")` calls `world("chain_sum")` of rg.py.
Files named to_*.py go the other way. A foreign package is imported where it is first used, never before.
"""

import ast
import importlib
from pathlib import Path
from types import ModuleType

from nanoschool.types import UserError

FOLDER = Path(__file__).parent


def prefixes() -> list[str]:
    """What may stand before the colon of a world's name, sorted; read from the sources, so nothing is imported."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if _defines_world(path))


def package(module: str, extra: str = "") -> ModuleType:
    """Import a module of somebody else's package.

    Raises UserError that names what to install where the package, or one that it needs, is absent.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        wanted = f"nanoschool[{extra}]" if extra else module.partition(".")[0].replace("_", "-")
        raise UserError(f"{module} cannot be imported ({error}): pip install '{wanted}'") from None


def _defines_world(path: Path) -> bool:
    body = ast.parse(path.read_text("utf-8")).body
    return any(isinstance(node, ast.FunctionDef) and node.name == "world" for node in body)
