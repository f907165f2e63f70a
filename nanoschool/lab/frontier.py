"""frontier: gold against the square root of KL, the forms of Gao et al. fitted, and where they hold (2210.10760).

    best of n: R(d) = d (α − β d)        RL: R(d) = d (α − β log d)        d = √KL, R the gold gained since the start

Both are linear in α and β, so they are fitted by least squares on the points' means. A form is said to hold where its curve
passes through the 95 % intervals (over problems) of nine points in ten; where it does not, its residuals say by how much.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nanoschool.evals.stats import Z95, mean_interval
from nanoschool.lab.goodhart import BEST_OF

RESAMPLES = 400
HOLDS = 0.9  # share of the points
FORMS = {"d(a - b d)": lambda d: d, "d(a - b log d)": np.log}  # Eq. 1 and 2: what beta is multiplied by


def curve(units: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The looks of an arm at one size, means over its seeds: distance, score, gold with intervals over problems."""
    told = []
    for same in zip(*(unit["points"] for unit in units), strict=True):
        P = len(same[0]["gold"])
        by_problem = {key: np.mean([p[key] for p in same], axis=0) for key in ("kl", "proxy", "gold")}
        assert all(len(values) == P for values in by_problem.values()), "every seed has the same problems"
        told.append(
            {
                "step": same[0]["step"],
                "distance": float(max(0.0, by_problem["kl"].mean()) ** 0.5),
                "proxy": mean_interval(by_problem["proxy"].tolist()).to_json(),
                "gold": mean_interval(by_problem["gold"].tolist()).to_json(),
                "said": same[0].get("said", ""),
            }
        )
    return told


def fits(units: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Each form on all looks of an arm at one size, and on those up to where gold is highest."""
    start = np.mean([unit["points"][0]["gold"] for unit in units], axis=0)
    looks = [p for unit in units for p in unit["points"][1:] if np.mean(p["kl"]) > 1e-6]
    d_L = np.array([np.mean(p["kl"]) ** 0.5 for p in looks])
    gains_LP = np.array([np.array(p["gold"]) - start for p in looks])
    peak = d_L[gains_LP.mean(1).argmax()]
    told = {}
    for name, inner in FORMS.items():
        told[name] = {"all": fit(d_L, gains_LP, inner)}
        until = d_L <= peak
        if 3 <= until.sum() < len(d_L):
            told[name]["to the peak"] = fit(d_L[until], gains_LP[until], inner)
    return told


def fit(d_L: np.ndarray, gains_LP: np.ndarray, inner: Any) -> dict[str, Any]:
    """α and β with 95 % intervals (problems drawn with replacement), and how well they describe the L points."""
    X_L2 = np.stack([d_L, -d_L * inner(d_L)], axis=1)

    def solved(y_L: np.ndarray) -> np.ndarray:
        return np.linalg.lstsq(X_L2, y_L, rcond=None)[0]

    L, P = gains_LP.shape
    y_L, rng = gains_LP.mean(1), np.random.default_rng(0)
    best = solved(y_L)
    drawn = np.array([solved(gains_LP[:, rng.integers(P, size=P)].mean(1)) for _ in range(RESAMPLES)])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    left_L = y_L - X_L2 @ best
    error_L = gains_LP.std(1, ddof=1) / P**0.5
    within = float((abs(left_L) <= Z95 * error_L).mean())
    total = float(((y_L - y_L.mean()) ** 2).sum())
    return {
        "alpha": dict(mean=float(best[0]), low=float(low[0]), high=float(high[0])),
        "beta": dict(mean=float(best[1]), low=float(low[1]), high=float(high[1])),
        "r2": 1 - float((left_L**2).sum()) / total if total else 1.0,
        "residual": float((left_L**2).mean() ** 0.5),
        "within": within,
        "holds": within >= HOLDS,
        "points": L,
        "problems": P,
    }


def summarise(units: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each arm and size: its curve, its fits, its peak and end, its judges, its alarms."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for unit in units:
        groups.setdefault((unit["arm"], unit["size"]), []).append(unit)
    told = []
    for (arm, size), same in groups.items():
        points = curve(same)
        peak = max(points, key=lambda p: p["gold"]["mean"])
        told.append(
            {
                "arm": arm,
                "size": size,
                "seeds": [unit["seed"] for unit in same],
                "judge": float(np.mean([unit["judge"]["mean"] for unit in same])),
                "curve": points,
                "peak": {key: peak[key] for key in ("step", "distance", "gold")},
                "end": {key: points[-1][key] for key in ("step", "distance", "proxy", "gold", "said")},
                "form": next(iter(FORMS)) if arm == BEST_OF else list(FORMS)[1],
                "fits": fits(same),
                "alarms": [unit["alarms"][0]["step"] if unit["alarms"] else None for unit in same],
            }
        )
    return told
