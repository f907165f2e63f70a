"""userfile: a user's own Python file, imported; and which of its lines an error came from.

What a user's file raises, as it is imported or later, when its world is played, is the user's to mend: its line is what
they need, in place of a traceback through ours.
"""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from nanoschool.types import UserError

PREFIX = "nanoschool_user_"  # of the modules' names


def import_file(path: Path, what: str) -> ModuleType:
    """The file as a module. Raises UserError, which begins with `what`, a world or a reward, where it raises."""
    if not path.is_file():
        raise UserError(f"{what} {path}: there is no such file; give the path of a .py file")
    spec = importlib.util.spec_from_file_location(f"{PREFIX}{what}_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # true of every path that ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the module that they are of
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except SyntaxError as error:
        place = f"{error.filename or path}:{error.lineno}"
        raise UserError(f"{what} {place}: is not Python ({error.msg}); mend that line") from None
    except Exception as error:
        raise UserError(f"{what} {complaint(error) or f'{path}: {in_words(error)}'}") from None
    return module


def complaint(error: BaseException) -> str | None:
    """FILE:LINE and what was raised, if a line of a user's file did it (the innermost such line); else None."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_globals.get("__name__", "").startswith(PREFIX):
            return f"{frame.f_code.co_filename}:{line}: {in_words(error)}"
    return None


def in_words(error: BaseException) -> str:
    """An error's kind and the first line of its words."""
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
