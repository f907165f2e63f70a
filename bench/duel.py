"""duel: two ways to do the same work, timed in turns within one run, so that whatever else the machine does meets both.

A ratio is of neighbours in time; its median and its quartiles are over the rounds.
"""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Clock = Callable[[], float]
Work = Callable[[], int]  # does it once; returns the useful units done


@dataclass(frozen=True)
class Duel:
    """The same work by `ours` and by `theirs`. `about` states its size: parameters, vocabulary, context, dtype, rows."""

    name: str
    about: str
    ours: Work
    theirs: Work
    rival: str
    target: float  # times faster that we mean to be
    unit: str = "tokens/s"


@dataclass(frozen=True)
class Score:
    duel: Duel
    ours: float  # units a second, median
    theirs: float
    ratio: tuple[float, float, float]  # lower quartile, median, upper quartile
    rounds: int

    def line(self) -> str:
        low, middle, high = self.ratio
        d, met = self.duel, "met" if middle >= self.duel.target else "not met"
        return (
            f"| {d.name} | {d.about} | {self.ours:,.0f} {d.unit} | {d.rival}: {self.theirs:,.0f} "
            f"| {middle:.2f} ({low:.2f} to {high:.2f}, n = {self.rounds}) | {d.target:g}, {met} |"
        )


HEAD = "| work | size | ours | against | times faster (quartiles) | target |\n|---|---|---|---|---|---|"


def rate(work: Work, clock: Clock) -> float:
    """Units a second of one go."""
    start = clock()
    done = work()
    return done / (clock() - start)


def fight(duel: Duel, rounds: int, clock: Clock) -> Score:
    """Alternate, after one go of each that does not count; who goes first alternates too."""
    duel.ours(), duel.theirs()
    pairs = []
    for i in range(rounds):
        if i % 2:
            theirs, ours = rate(duel.theirs, clock), rate(duel.ours, clock)
        else:
            ours, theirs = rate(duel.ours, clock), rate(duel.theirs, clock)
        pairs.append((ours, theirs))
    ratios = sorted(ours / theirs for ours, theirs in pairs)
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if rounds > 1 else ratios * 3
    return Score(
        duel,
        statistics.median(ours for ours, _ in pairs),
        statistics.median(theirs for _, theirs in pairs),
        (low, middle, high),
        rounds,
    )


def table(duels: Iterable[Duel], rounds: int, clock: Clock, show: Callable[[str], None]) -> None:
    """Fight each and show its line at once."""
    show(HEAD)
    for duel in duels:
        show(fight(duel, rounds, clock).line())
