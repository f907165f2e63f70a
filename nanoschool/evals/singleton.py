"""singleton: how much must be made up: facts seen once, facts never seen, and the bounds that follow from them.

After Kalai et al. 2025 (https://arxiv.org/abs/2509.04664, theorem 3; before it Kalai & Vempala 2024,
https://arxiv.org/abs/2311.14648): a calibrated model that always answers errs about as often as training has shown
facts just once, for the share of such facts is Good and Turing's estimate of what it has not shown at all. Where the
world is ours the estimate stands beside the truth: `exposures` are the weights that people are shown in proportion to.
"""

from collections.abc import Sequence
from math import log, sqrt


def singleton_rate(counts: Sequence[int]) -> float:
    """Facts seen exactly once, as a share of all sightings: Good and Turing's estimate of `missing_share`.

    `counts` says how often each fact was seen; 0.0 where nothing was.
    """
    return counts.count(1) / total if (total := sum(counts)) else 0.0


def expected_singleton_rate(exposures: Sequence[float], sightings: int) -> float:
    """`singleton_rate` on average over `sightings` independent draws in proportion to `exposures`."""
    return sum(p * (1 - p) ** (sightings - 1) for p in _shares(exposures)) if sightings else 0.0


def missing_share(exposures: Sequence[float], counts: Sequence[int]) -> float:
    """The probability that the next sighting is of a fact never seen so far; one count for each exposure."""
    return sum(p for p, seen in zip(_shares(exposures), counts, strict=True) if not seen)


def expected_missing_share(exposures: Sequence[float], sightings: int) -> float:
    """`missing_share` on average over `sightings` independent draws in proportion to `exposures`."""
    return sum(p * (1 - p) ** sightings for p in _shares(exposures))


def least_error(counts: Sequence[int], answers: int) -> float:
    """The error of one who remembers each fact seen and guesses the others among `answers`, all asked equally often.

    No model does better that always answers: this is a floor, exact in our world, for any mix of questions (pass the
    counts of the facts that were asked).
    """
    return counts.count(0) / len(counts) * (1 - 1 / answers) if counts else 0.0


def calibrated_bound(counts: Sequence[int], answers: int, miscalibration: float = 0.0) -> float:
    """The theorem's lower bound on the error over questions drawn as training's were; holds with probability 0.99.

    sr - 2/(answers - 1) - (35 + 6 ln N)/sqrt(N) - delta, with N sightings and `answers` - 1 wrong answers a question.
    It is below 0, which says nothing, until N is in the ten thousands: `singleton_rate` is what it tends to.
    """
    sightings = sum(counts)
    if not sightings:
        return 0.0
    slack = (35 + 6 * log(sightings)) / sqrt(sightings)
    return singleton_rate(counts) - 2 / (answers - 1) - slack - miscalibration


def penalty(confidence: float) -> float:
    """What a wrong answer must cost, where abstaining earns 0, so that answering pays above `confidence`: t/(1-t)."""
    return confidence / (1 - confidence)


def _shares(exposures: Sequence[float]) -> list[float]:
    total = sum(exposures)
    return [exposure / total for exposure in exposures]
