"""boxed: what runs inside a box: either a program whose function is called, or the judge that calls it.

Two boxes, joined by two pipes. The program's box runs foreign code and never sees a check; the judge's box runs
the checks and never foreign code: it gets values, as Python literals, and compares them itself. So no exit status,
no printed word, no changed `assert` or builtin and no odd `__eq__` of the program's reaches the verdict, which is
a secret that only the judge was given and that it writes after the last check.
"""

import ast
import os
import resource
import sys
from contextlib import suppress
from typing import Any, BinaryIO, NoReturn

MEMORY = 512 << 20
FILE = 1 << 20
LINE = 1 << 20  # bytes of one call's arguments or of one answer


class ProgramError(Exception):
    """The program gave no value."""


def program(entry_point: str, calls: BinaryIO, answers: BinaryIO) -> None:
    """Define what /box/program.py defines, then answer calls of its `entry_point` until there are no more."""
    space: dict[str, Any] = {"__name__": "program"}
    broken = ""
    try:
        exec(compile(_read("program.py"), "program.py", "exec"), space)
    except BaseException as error:  # SystemExit too: it is no verdict
        broken = _describe(error)
    for call in calls:
        try:
            said = (
                ("error", broken)
                if broken
                else ("value", space[entry_point](*ast.literal_eval(call.decode())))
            )
            line = repr(said).encode("utf-8", "backslashreplace")
        except BaseException as error:
            line = repr(("error", _describe(error))).encode("utf-8", "backslashreplace")
        answers.write(line.replace(b"\n", b" ") + b"\n")
        answers.flush()


def judge(secret: str, answers: BinaryIO, calls: BinaryIO, verdicts: BinaryIO) -> None:
    """Run `check(candidate)` of /box/check.py, where candidate asks the other box; then write the secret."""

    def candidate(*arguments: Any) -> Any:
        with suppress(
            BrokenPipeError
        ):  # an ended program is told of below, by the answer that it does not give
            calls.write(repr(arguments).encode() + b"\n")
            calls.flush()
        line = answers.readline(LINE)
        if not line.endswith(b"\n"):
            raise ProgramError("the program ended, or said too much, before it answered")
        try:
            kind, said = ast.literal_eval(line.decode())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise ProgramError("the program returned something else than plain values") from None
        if kind != "value":
            raise ProgramError(said)
        return said

    space: dict[str, Any] = {"__name__": "check"}
    try:
        exec(compile(_read("check.py"), "check.py", "exec"), space)
        space["check"](candidate)
    except BaseException as error:
        verdict = _describe(error)
    else:
        verdict = secret
    verdicts.write(verdict.encode("utf-8", "backslashreplace"))
    verdicts.flush()


def main() -> NoReturn:
    """Take the pipes away from where foreign code prints, bound what it may use, and play the role."""
    role, argument, seconds = sys.argv[1:]
    source, sink, verdicts = (
        os.fdopen(os.dup(0), "rb"),
        os.fdopen(os.dup(1), "wb"),
        os.fdopen(os.dup(2), "wb"),
    )
    nowhere = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    cpu = int(float(seconds)) + 1
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, FILE),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    if role == "program":
        program(argument, source, sink)
    else:
        judge(argument, source, sink, verdicts)
    os._exit(0)


def _read(name: str) -> str:
    with open(f"/box/{name}", encoding="utf-8") as file:
        return file.read()


def _describe(error: BaseException) -> str:
    """The error in one bounded line; its own `__str__` may be foreign and may raise."""
    name = type(error).__name__[:60]
    try:
        text = " ".join(str(error)[:300].split())
    except BaseException:
        text = ""
    return f"{name}: {text}" if text else name


if __name__ == "__main__":
    main()
