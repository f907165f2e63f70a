"""interrupt: Ctrl-C waits for the end of the step, so that a checkpoint can be written first."""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """A run was asked to stop, and what it has is saved."""


@contextmanager
def terminable() -> Generator[None]:
    """SIGTERM is what Ctrl-C is: KeyboardInterrupt, wherever the program is."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def interruptible() -> Generator[list[int]]:
    """SIGINT and SIGTERM are noted in the list; a second one is obeyed at once (KeyboardInterrupt)."""
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
