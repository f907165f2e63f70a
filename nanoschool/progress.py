"""progress: what a run shows while it works: live on a terminal (rich, MIT), as plain lines elsewhere, or nothing."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

EVERY = 5.0  # seconds between plain lines
DRAWN_EVERY = 0.1  # seconds between pictures of the live block


class Progress(Protocol):
    """What `run` and `train` tell whoever watches. `done` is the spent fraction of the stage's budget."""

    def stage(self, name: str, budget: str) -> None: ...

    def step(self, stage: str, step: int, done: float, metrics: Mapping[str, float], rate: str) -> None: ...

    def sample(self, text: str) -> None: ...

    def say(self, line: str) -> None: ...

    def close(self) -> None: ...


def watcher(stream: TextIO = sys.stdout) -> Progress:
    """The display that fits a stream: live on a terminal, else plain lines."""
    return Shown(Console(file=stream)) if stream.isatty() else Lines(stream)


class Silent:
    """Shows nothing."""

    def stage(self, name: str, budget: str) -> None:
        """Nothing to show."""

    def step(self, stage: str, step: int, done: float, metrics: Mapping[str, float], rate: str) -> None:
        """Nothing to show."""

    def sample(self, text: str) -> None:
        """Nothing to show."""

    def say(self, line: str) -> None:
        """Nothing to show."""

    def close(self) -> None:
        """Nothing to close."""


class TimeLeft:
    """The rest of a stage, from how fast its budget went since we watch; a resumed stage starts part-way."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.since = clock, clock()
        self.first: float | None = None  # `done` when we first looked

    def __call__(self, done: float) -> str:
        if self.first is None:
            self.first, self.since = done, self.clock()
        gone = done - self.first
        if gone <= 0:
            return "--:--"
        left = max(0.0, (1.0 - done) / gone) * (self.clock() - self.since)
        return f"{int(left) // 60}:{int(left) % 60:02d}"


class Lines:
    """A line when a stage starts and ends, and at most one every few seconds in between."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.clock = stream, clock
        self.left, self.last = TimeLeft(clock), -EVERY
        self.text = ""

    def stage(self, name: str, budget: str) -> None:
        self.left, self.last, self.text = TimeLeft(self.clock), self.clock(), ""
        self.say(f"{name}: budget {budget}")

    def step(self, stage: str, step: int, done: float, metrics: Mapping[str, float], rate: str) -> None:
        left = self.left(done)
        if self.clock() - self.last < EVERY and done < 1.0:
            return
        self.last = self.clock()
        self.say(f"{stage} step {step} {min(done, 1.0):4.0%} {_numbers(metrics)} {rate} {left} left")
        if self.text:
            self.say(f"  {self.text}")
            self.text = ""

    def sample(self, text: str) -> None:
        self.text = _one_line(text)

    def say(self, line: str) -> None:
        print(line, file=self.stream, flush=True)

    def close(self) -> None:
        """Every line is out already."""


class Shown:
    """One live block: stage, bar, rate, time left, numbers, and the sample being produced; `say` prints above it."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.clock = console, clock
        self.live: Live | None = None
        self.left, self.name, self.budget, self.text, self.drawn = TimeLeft(clock), "", "", "", float("-inf")

    def stage(self, name: str, budget: str) -> None:
        self.close()
        self.left, self.name, self.budget, self.text = TimeLeft(self.clock), name, budget, ""
        self.live = Live(
            Text(name), console=self.console, auto_refresh=False
        )  # drawn by us: no thread beside a run
        self.live.start(refresh=True)

    def step(self, stage: str, step: int, done: float, metrics: Mapping[str, float], rate: str) -> None:
        if self.live is None or stage != self.name:
            self.stage(stage, self.budget)
        assert self.live is not None
        row = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=1.0, completed=min(done, 1.0), width=24)
        row.add_row(
            f"[bold]{stage}[/]", bar, f"{min(done, 1.0):4.0%}", self.budget, rate, f"{self.left(done)} left"
        )
        numbers = Text(f"step {step}  {_numbers(metrics)}", style="cyan")
        sample = Text(self.text, style="dim", no_wrap=True, overflow="ellipsis")
        due = self.clock() - self.drawn > DRAWN_EVERY or done >= 1.0
        self.drawn = self.clock() if due else self.drawn
        self.live.update(Group(row, numbers, sample), refresh=due)

    def sample(self, text: str) -> None:
        self.text = _one_line(text)

    def say(self, line: str) -> None:
        self.console.print(Text(line))

    def close(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None


SHOWN_FIRST = ("reward", "paid", "kl", "loss", "accuracy", "score", "bits_per_byte", "entropy", "level")


def _numbers(metrics: Mapping[str, float]) -> str:
    """The few numbers that tell how it goes, best first."""
    return "  ".join(f"{name} {metrics[name]:.3g}" for name in SHOWN_FIRST if name in metrics)


def _one_line(text: str) -> str:
    """A sample on one line, so that it cannot move what stands below it."""
    return " ".join(text.split())[:200]
