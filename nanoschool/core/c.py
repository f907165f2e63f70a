"""c: functions in C beside a Python file, compiled for this very processor by the machine's own compiler, at first use.

It takes a third of a second in every process, and nothing is kept on disk. On macOS, whose compiler comes without OpenMP,
they run on one thread.
"""

import ctypes
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from nanoschool.types import UserError

FLAGS = ("-std=gnu11", "-O3", "-march=native", "-shared", "-fPIC")
LONG, FLOAT, AT = ctypes.c_long, ctypes.c_float, ctypes.c_void_p
Types = tuple[type, ...]


def at(x: Tensor | None) -> int | None:
    """Where its first number stands; None is null."""
    return None if x is None else x.data_ptr()


def compiler() -> str:
    """Which one, in a line of its own; "" where there is none."""
    try:
        told = subprocess.run([*_command(), "--version"], capture_output=True, text=True)
    except OSError:
        return ""
    return told.stdout.partition("\n")[0]


def compiled(source: Path, functions: Mapping[str, Types], **given: int) -> ctypes.CDLL:
    """A C file's functions, with macros as given. UserError where there is no compiler that does it."""
    threads = [] if sys.platform == "darwin" else ["-fopenmp"]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "made.so")
        macros = [f"-D{name}={value}" for name, value in given.items()]
        command = [*_command(), *FLAGS, *threads, *macros, str(source), "-o", str(made), "-lm"]
        try:
            told = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            raise UserError(f"there is no C compiler ({error}): install gcc, or name another in CC") from None
        if told.returncode:
            why = [line for line in told.stderr.splitlines() if "error" in line] or ["it does not say why"]
            raise UserError(
                f"{_command()[0]} cannot compile {source.name} ({why[0]}): install gcc, or name another in CC"
            )
        found = ctypes.CDLL(str(made))
    for name, types in functions.items():
        getattr(found, name).argtypes, getattr(found, name).restype = types, None
    return found


def _command() -> list[str]:
    return shlex.split(os.environ.get("CC", "cc"))
