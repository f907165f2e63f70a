"""planted: worlds whose rewards have a hole each, put there on purpose, so that the audit can be seen to find it.

Nobody should learn in them: they are no worlds of the registry, and only `nanoschool audit planted` plays them.
"""

import importlib
from pathlib import Path

from nanoschool.types import Environment

SHARED = ("__init__", "capitals")


def worlds() -> list[Environment]:
    """Every world of this folder."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in SHARED)
    return [importlib.import_module(f"{__name__}.{name}").WORLD for name in names]
