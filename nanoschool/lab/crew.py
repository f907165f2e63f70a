"""crew: processes that do the cells of a comparison, as many at once as were asked for, each on one thread.

A process is this module run by a fresh Python, told its cells over a pipe. When the command is killed the pipe is closed,
and a process ends with the step that it is at; what it had saved is taken up by the next.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

from nanoschool.core import device
from nanoschool.core.heap import give_back
from nanoschool.interrupt import Interrupted
from nanoschool.lab.cells import Cell, carry_out
from nanoschool.lab.comparison import Comparison, planned
from nanoschool.types import UserError
from nanoschool.userfile import complaint

THREADS = 1


class Crew:
    """So many processes, until the end of the block; whatever they are at then is cut off."""

    def __init__(self, comparison: Comparison, root: Path, processes: int) -> None:
        self.comparison, self.root, self.processes = comparison, root, processes
        self.workers: dict[Connection, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *error: object) -> None:
        for pipe, process in self.workers.items():
            pipe.close()
            process.kill()  # all that is needed is on the disk
            process.wait()

    def do(
        self, cells: Sequence[Cell], moved: Callable[[Cell, float], None], done: Callable[[Cell], None]
    ) -> None:
        """Do the cells in their order; `moved` is told how far one is, `done` that it is over.

        Raises UserError where a cell does, or its process ends by itself.
        """
        left, at = list(cells), dict[Connection, Cell]()
        while len(self.workers) < min(self.processes, len(cells)):
            self._hire()
        while left or at:
            for pipe in [pipe for pipe in self.workers if pipe not in at][: len(left)]:
                at[pipe] = left.pop(0)
                pipe.send(asdict(at[pipe]))
            for pipe in wait(list(at)):
                assert isinstance(pipe, Connection)
                told = self._hear(pipe, at[pipe])
                if "error" in told:
                    raise UserError(f"{at[pipe].folder}: {told['error']}")
                if "progress" in told:
                    moved(at[pipe], told["progress"])
                else:
                    done(at.pop(pipe))

    def _hear(self, pipe: Connection, cell: Cell) -> Mapping[str, Any]:
        try:
            return pipe.recv()
        except (EOFError, ConnectionError):
            status = self.workers[pipe].wait()
            raise UserError(
                f"{self.root / 'cells' / cell.folder}: its process ended with status {status}; the same command goes on"
            ) from None

    def _hire(self) -> None:
        ours, theirs = Pipe()
        words = [sys.executable, "-m", __name__, str(self.root), str(theirs.fileno())]
        threads = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
        process = subprocess.Popen(words, pass_fds=[theirs.fileno()], env=threads, stdin=subprocess.DEVNULL)
        theirs.close()
        self.workers[ours] = process


class Told:
    """What a process tells of its training: how far it is. A pipe that nobody hears ends the process."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe

    def stage(self, name: str, budget: str) -> None:
        """Known to who asked."""

    def step(self, stage: str, step: int, done: float, metrics: Mapping[str, float], rate: str) -> None:
        self.pipe.send({"progress": done})

    def sample(self, text: str) -> None:
        """Not shown."""

    def say(self, line: str) -> None:
        """Not shown."""

    def close(self) -> None:
        """Nothing to close."""


def work(comparison: Comparison, root: Path, pipe: Connection) -> None:
    """Do the cells that come over the pipe, until it closes."""
    device.choose(comparison.device, THREADS)
    while True:
        try:
            carry_out(comparison, Cell(**pipe.recv()), root, Told(pipe))
            pipe.send({})
        except (EOFError, ConnectionError, Interrupted):
            return
        except UserError as error:
            pipe.send({"error": str(error)})
        except Exception as error:
            if (its_own := complaint(error)) is None:
                raise
            pipe.send({"error": f"{its_own}; mend that line"})
        give_back()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started us, and ends us
    place = Path(sys.argv[1])
    work(planned(place), place, Connection(int(sys.argv[2])))
