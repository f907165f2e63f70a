"""verdict: every pair of arms that a reader asked about, by seed and problem, and whether one arm may be called the best.

The family that Holm corrects for is every pair with a method in it: each method against each other one, each control, the
start, and more sampling. A winner is an arm whose difference to every other is above 0 after that; else the data name none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from nanoschool.evals.seeds import Spread, holm, paired

ALPHA = 0.05

Scores = Sequence[Sequence[float]]  # (seeds, problems)


@dataclass(frozen=True)
class Pair:
    """`after` less `before`."""

    before: str
    after: str
    difference: Spread
    adjusted: float  # Holm's p-value

    @property
    def decided(self) -> bool:
        return self.adjusted < ALPHA

    def to_json(self) -> dict[str, object]:
        return {
            "before": self.before,
            "after": self.after,
            "difference": self.difference.to_json(),
            "p": self.difference.p_value(),
            "p_holm": self.adjusted,
            "decided": self.decided,
        }


@dataclass(frozen=True)
class Verdict:
    leader: str  # the method with the highest mean
    winner: str  # the same one, or "" where the data name none
    tied: tuple[str, ...]  # arms that the leader cannot be told from, or that are better
    words: str


def pairs(scores: Mapping[str, Scores], methods: Sequence[str]) -> list[Pair]:
    """All pairs of arms with a method in them; scores of the same seeds and problems in the same order."""
    family = [pair for pair in combinations(scores, 2) if set(pair) & set(methods)]
    found = [paired(scores[before], scores[after]) for before, after in family]
    adjusted = holm([difference.p_value() for difference in found])
    return [Pair(*names, d, p) for names, d, p in zip(family, found, adjusted, strict=True)]


def verdict(scores: Mapping[str, Scores], methods: Sequence[str], compared: Sequence[Pair]) -> Verdict:
    """Whether a method is better than everything else here, and in what words that may be said."""
    leader = max(methods, key=lambda name: _mean(scores[name]))
    tied = tuple(
        _other(pair, leader)
        for pair in compared
        if leader in (pair.before, pair.after) and not _won(pair, leader)
    )
    seeds, problems = len(scores[leader]), len(scores[leader][0])
    n = f"n = {seeds} seeds, {problems} problems"
    if not tied:
        words = (
            f"{leader} is best: its difference to every other arm is above 0 after Holm's correction ({n})"
        )
        return Verdict(leader, leader, (), words)
    better = [name for name in tied if _mean(scores[name]) > _mean(scores[leader])]
    words = f"The data name no winner: {leader} has the highest mean of the methods, but cannot be told from {_list(tied)}"
    if better:
        words += f", and the mean of {_list(better)} is above it"
    return Verdict(leader, "", tied, f"{words} ({n})")


def _won(pair: Pair, name: str) -> bool:
    return pair.decided and (pair.difference.mean > 0) == (pair.after == name)


def _other(pair: Pair, name: str) -> str:
    return pair.before if pair.after == name else pair.after


def _mean(scores: Scores) -> float:
    return sum(map(sum, scores)) / sum(map(len, scores))


def _list(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
