"""c: functions in C beside a Python file, compiled for this very processor by the machine's own compiler, at first use.

It takes a quarter to half a second a file in every process, and nothing is kept on disk. On macOS, whose compiler comes
without OpenMP, they run on one thread.
"""

import ctypes
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from nanoschool.types import UserError

# one width of vectors, whatever a processor would rather have: the order of a sum follows from it
WIDTH = ("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()
FLAGS = ("-std=gnu11", "-O3", "-march=native", *WIDTH, "-shared", "-fPIC")
LONG, FLOAT, AT = ctypes.c_long, ctypes.c_float, ctypes.c_void_p
Types = tuple[type, ...]


def at(x: Tensor | None) -> int | None:
    """Where its first number stands; None is null."""
    return None if x is None else x.data_ptr()


def compiler() -> str:
    """Which one, with what flags of the user's; "" where there is none."""
    try:
        told = subprocess.run([*_command(), "--version"], capture_output=True, text=True)
    except OSError:
        return ""
    version = told.stdout.partition("\n")[0].partition(" ")[2]  # cc and gcc are one
    return " ".join([version, *_command()[1:]])


def compiled(source: Path, functions: Mapping[str, Types], **given: int) -> ctypes.CDLL:
    """A C file's functions, with macros as given. UserError where there is no compiler that does it."""
    threads = [] if sys.platform == "darwin" else ["-fopenmp"]
    with _folder() as folder:
        made = Path(folder, "made.so")
        macros = [f"-D{name}={value}" for name, value in given.items()]
        command = [*_command(), *FLAGS, *threads, *macros, str(source), "-o", str(made), "-lm"]
        try:
            told = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            raise UserError(f"there is no C compiler ({error}): install gcc, or name another in CC") from None
        if told.returncode:
            said = told.stderr.splitlines() or ["it does not say why"]
            why = [line for line in said if "error" in line] or said
            raise UserError(
                f"{_command()[0]} cannot compile {source.name} ({why[0]}): install gcc, or name another in CC"
            )
        try:
            found = ctypes.CDLL(str(made))
        except OSError as error:
            raise UserError(
                f"what {_command()[0]} made cannot be loaded ({error}): see CC and TMPDIR"
            ) from None
    for name, types in functions.items():
        getattr(found, name).argtypes, getattr(found, name).restype = types, None
    return found


def _command() -> list[str]:
    try:
        return shlex.split(os.environ.get("CC", "")) or ["cc"]
    except ValueError as error:
        raise UserError(f"CC={os.environ['CC']} names no compiler: {error}") from None


def _folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory()
    except OSError as error:
        raise UserError(
            f"there is nowhere to compile in ({error}): set TMPDIR to a folder of yours"
        ) from None
