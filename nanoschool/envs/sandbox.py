"""sandbox: runs programs that a model wrote, in pydantic-monty: a Python interpreter that holds no way out.

Every program gets a fresh session in a worker process, with limits on time, memory, recursion, sleep and output, a
clock that stands still and a fixed random seed: the same program prints the same text. It has no files, network,
processes, environment, generators or inheritance; what needs full CPython runs in envs/bubblewrap.py. A worker that
dies is replaced. What goes wrong in a program is text for the model, never an exception of ours.
"""

import atexit
import datetime
import math
import os
from dataclasses import dataclass, field
from typing import Any

from nanoschool.envs import adapters
from nanoschool.types import UserError

NOON = datetime.datetime(2026, 1, 1, 12)
GRACE = 0.5  # seconds after its limit until a worker that does not stop by itself is killed


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

    seconds: float = 0.5  # of running; sleep is counted apart
    sleep: float = 0.1  # seconds of sleep in all
    memory: int = 16  # MiB
    depth: int = 200  # of calls
    output: int = 400  # characters that the model gets to read, an error included
    source: int = 20_000  # characters of the program


@dataclass(frozen=True)
class Ran:
    """What a program did: what it printed, then the error that ended it, if one did."""

    text: str
    ok: bool  # it came to its end


class Sandbox:
    """Worker processes that run one program at a time, the others kept warm for when one dies.

    Raises UserError where pydantic-monty is not installed.
    """

    def __init__(self, limits: Limits = Limits(), workers: int = 2) -> None:
        self._monty = adapters.package("pydantic_monty")
        self.limits = limits
        self._session: dict[str, Any] = dict(
            limits=dict(
                max_feed_duration_secs=limits.seconds,
                max_turn_duration_secs=limits.seconds,
                max_total_sleep_secs=limits.sleep,
                max_memory=limits.memory << 20,
                max_recursion_depth=limits.depth,
                max_suspensions=100,
            ),
            os_policy=dict(
                datetime=NOON, sleep="system", sleep_system_max=math.inf, random_start=dict(seed=0)
            ),
        )
        self._pool = self._monty.Monty(
            min_processes=workers,
            max_processes=workers,
            request_timeout=limits.seconds + limits.sleep + GRACE,
            feed_duration_limit_grace=GRACE,
            turn_duration_limit_grace=GRACE,
        )
        self._pool.__enter__()

    def close(self) -> None:
        """End the workers."""
        self._pool.__exit__(None, None, None)

    def run(self, program: str) -> Ran:
        """Run a program in a session of its own. Whatever it does, this returns within the limits and a second."""
        if len(program) > self.limits.source:
            return Ran(f"SyntaxError: the program is longer than {self.limits.source} characters", False)
        printed = _Printed(self.limits.output)
        try:
            with self._pool.checkout(**self._session) as session:
                # The last line keeps the value of a last expression from being built here.
                session.feed_run(f"{program}\nNone", print_callback=printed)
        except self._monty.MontyError as error:
            line = self._error(error)
            said = printed.text[: max(0, self.limits.output - len(line) - 1)]
            return Ran(said + "\n" * (said[-1:] not in ("", "\n")) + line, False)
        return Ran(printed.text, True)

    def _error(self, error: Any) -> str:
        """One bounded line that is the same in every run: no measured time, no count of bytes."""
        limits = self.limits
        if isinstance(error, self._monty.MontyCrashedError):
            return "SystemError: the program broke the interpreter"
        line = error.display(format="type-msg").replace("\n", " ")
        if "sleep limit exceeded" in line or "suspension limit" in line:
            line = f"TimeoutError: the program slept for more than {limits.sleep} s"
        elif "time limit exceeded" in line:
            line = f"TimeoutError: the program ran for more than {limits.seconds} s"
        elif "memory limit" in line:
            line = f"MemoryError: the program needs more than {limits.memory} MiB"
        return line[: limits.output]


@dataclass
class _Printed:
    """The first `room` characters of what a program prints; the rest is dropped."""

    room: int
    parts: list[str] = field(default_factory=list)

    def __call__(self, stream: str, text: str) -> None:
        if self.room > 0:
            self.parts.append(text[: self.room])
            self.room -= len(text)

    @property
    def text(self) -> str:
        return "".join(self.parts)


_SHARED: dict[int, Sandbox] = {}  # by process


def shared() -> Sandbox:
    """This process's sandbox with the default limits, started at its first use and ended with the process.

    Raises UserError in a child that was forked from a process with a sandbox.
    """
    process = os.getpid()
    if process not in _SHARED:
        if _SHARED:  # the interpreter's threads stayed in the parent, and a call would wait for them for ever
            raise UserError(
                "a model's program cannot be run in a process forked from one that has run some;"
                " start the process anew (multiprocessing's spawn), or fork before the first program"
            )
        _SHARED[process] = Sandbox()
        atexit.register(lambda: _SHARED[process].close() if os.getpid() == process else None)
    return _SHARED[process]
