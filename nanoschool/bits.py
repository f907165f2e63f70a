"""bits: how much a teaching signal says, at most, to one who predicts it as the learner does: entropy, in bits.

A reward is predicted by the shares of its group, so a group whose rewards are all equal says nothing, and one
of n attempts log2 n bits an attempt at most (after "Information bandwidth in RL": an episode teaches no more than that).
Pure functions on plain lists.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from math import exp, log2


def binary(p: float) -> float:
    """h(p) of a yes or no that comes as yes with probability p; 1 bit at p = ½, 0 at 0 and 1."""
    return 0.0 if p <= 0 or p >= 1 else -p * log2(p) - (1 - p) * log2(1 - p)


def of_label(margin: float) -> float:
    """Of which side is preferred, for one who expects the first with probability σ(margin) (Bradley & Terry 1952)."""
    return binary(1 / (1 + exp(-abs(margin))))


def entropy(signals: Sequence[Hashable]) -> float:
    """Of one signal drawn from the shares in which these came."""
    n = len(signals)
    return sum(-count / n * log2(count / n) for count in Counter(signals).values()) + 0.0


def of_groups(groups: Sequence[int], signals: Sequence[Hashable | None]) -> float:
    """Of all signals, each predicted by the shares of its group. None is no signal, and says nothing."""
    members: dict[int, list[Hashable]] = {}
    for group, signal in zip(groups, signals, strict=True):
        if signal is not None:
            members.setdefault(group, []).append(signal)
    return sum(len(signals) * entropy(signals) for signals in members.values())
