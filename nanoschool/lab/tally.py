"""tally: from the results of a comparison's cells to what compare.json says: scores, curves, costs, pairs, and the verdict.

The JSON is a function of the results alone. Every score has its interval over seeds and problems, and both counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nanoschool.evals.passk import pass_at_k
from nanoschool.evals.seeds import paired, spread
from nanoschool.lab.comparison import Arm, Comparison
from nanoschool.lab.practised import EVALUATION
from nanoschool.lab.sampling import RULES
from nanoschool.lab.verdict import ALPHA, pairs, verdict
from nanoschool.ledger import Cost, Ledger
from nanoschool.methods import describe
from nanoschool.training import STAGE

START = "start"
IN_CHAT = "start in chat"

Results = Sequence[Mapping[str, Any]]


def tally(
    comparison: Comparison, arms: Sequence[Arm], absent: Mapping[str, str], results: Results
) -> dict[str, Any]:
    """All that is told of a finished comparison; `absent` says why a control is not there."""
    start = next(one for one in results if one["kind"] == START)
    sampled = [one for one in results if one["kind"] == "sampling"]
    seeds = comparison.seeds
    rewards: dict[str, list[list[float]]] = {START: [start["rewards"]] * seeds}
    if "chat" in start:
        rewards[IN_CHAT] = [start["chat"]] * seeds
    k = sampled[0]["attempts"]
    for rule in RULES:
        rewards[f"{rule}@{k}"] = [one[rule] for one in sampled]
    every: dict[str, dict[str, Any]] = {START: _start(comparison, start)}
    if "chat" in start:
        every[IN_CHAT] = {
            "kind": "baseline",
            "about": "the start without training, asked in chat as the arms are",
        }
    every |= {f"{rule}@{k}": _sampled(rule, k, sampled) for rule in RULES}
    for arm in arms:
        trained = [one for one in results if one["kind"] == "arm" and one["method"] == arm.method]
        trials = [one for one in results if one["kind"] == "trial" and one["method"] == arm.method]
        rewards[arm.name] = [one["exam"]["rewards"] for one in trained]
        every[arm.name] = _arm(comparison, arm, trained, trials, start)
    paid = [reward for rows in rewards.values() for row in rows for reward in row]
    for name, told in every.items():
        told["test"] = spread(rewards[name], _range(paid)).to_json()
    methods = [arm.name for arm in arms if arm.kind == "method"]
    compared = pairs(rewards, methods)
    return {
        "comparison": comparison.to_json(),
        "command": comparison.command(),
        "verdict": asdict(verdict(rewards, methods, compared)) | {"alpha": ALPHA, "family": len(compared)},
        "arms": every,
        "absent": dict(absent),
        "pairs": [pair.to_json() for pair in compared],
        "bill": _bill(results),
        "rewards": rewards,
    }


def _start(comparison: Comparison, start: Mapping[str, Any]) -> dict[str, Any]:
    right = [start["right"]]
    return {
        "kind": "baseline",
        "about": f"the start without training, asked as it answers best on dev: {start['way']}",
        "passk": _passk(comparison.attempts, right),
    }


def _sampled(rule: str, k: int, sampled: Results) -> dict[str, Any]:
    chosen = {"vote": "the commonest answer", "likeliest": "the likeliest attempt"}[rule]
    return {
        "kind": "baseline",
        "about": f"the start without training, {k} attempts at each test problem for what training costs: {chosen}",
        "cost": _mean([_spent(one).total() for one in sampled]),
    }


def _arm(
    comparison: Comparison, arm: Arm, trained: Results, trials: Results, start: Mapping[str, Any]
) -> dict[str, Any]:
    elsewhere = {}
    for world, before in start["elsewhere"].items():
        after = [one["exam"]["elsewhere"][world] for one in trained]
        elsewhere[world] = {
            "before": spread([before] * len(after), _range(before)).to_json(),
            "after": spread(after, _range([reward for row in after for reward in row])).to_json(),
            "difference": paired([before] * len(after), after).to_json(),
        }
    distances = [one["exam"]["distance"] for one in trained]
    return {
        "kind": arm.kind,
        "about": describe().get(arm.method, arm.method).partition(": ")[2] or arm.method,
        "lr": trained[0]["lr"],
        "trials": [
            {"lr": one["lr"], "dev": one["curve"][-1]["dev"], "diverged": one["diverged"], **_practice(one)}
            for one in trials
        ],
        "passk": _passk(comparison.attempts, [one["exam"]["right"] for one in trained]),
        "distance": {per: _over_seeds([one[per] for one in distances]) for per in distances[0]},
        "elsewhere": elsewhere,
        "chosen": [{"seed": one["seed"], **one["best"]} for one in trained],
        "diverged": [one["seed"] for one in trained if one["diverged"]],
        "curves": [one["curve"] for one in trained],
        "cost": _mean([_spent(one).total(STAGE) for one in trained]),
        "cost_of_trials": asdict(sum((_spent(one).total(STAGE) for one in trials), Cost())),
        "seconds": sum(one["curve"][-1]["seconds"] for one in trained) / len(trained),
    }


def _passk(attempts: int, right_SP: Sequence[Sequence[int]]) -> dict[str, Any]:
    """pass@k for k = 1, 2, 4 … and all attempts, each unbiased, over seeds and problems."""
    ks = sorted({*(2**i for i in range(attempts.bit_length())), attempts})
    return {
        str(k): spread(
            [[pass_at_k(attempts, c, k) for c in right_P] for right_P in right_SP], (0, 1)
        ).to_json()
        for k in ks
    }


def _range(paid: Sequence[float]) -> tuple[float, float]:
    """What a reward can be, as far as is known: all that was paid, and from 0 to 1."""
    return min(0.0, *paid), max(1.0, *paid)


def _over_seeds(values: Sequence[float]) -> dict[str, float]:
    """Of what is computed, and not sampled, for each seed: the mean, and what it is between."""
    return {
        "mean": sum(values) / len(values),
        "least": min(values),
        "most": max(values),
        "seeds": len(values),
    }


def _practice(result: Mapping[str, Any]) -> dict[str, float]:
    return asdict(_spent(result).total(STAGE)) | {"seconds": result["curve"][-1]["seconds"]}


def _bill(results: Results) -> dict[str, Any]:
    """What all of it cost, by what it was for, evaluation apart."""
    bill: dict[str, Cost] = {}
    seconds: dict[str, float] = {}
    for one in results:
        ledger, kind = _spent(one), one["kind"]
        for name, cost in (
            (kind, ledger.total() - ledger.total(EVALUATION)),
            (EVALUATION, ledger.total(EVALUATION)),
        ):
            name = EVALUATION if kind == START else name
            bill[name] = bill.get(name, Cost()) + cost
        seconds[kind] = seconds.get(kind, 0.0) + one["seconds"]
    return {name: asdict(cost) for name, cost in bill.items()} | {"seconds": seconds}


def _spent(result: Mapping[str, Any]) -> Ledger:
    return Ledger.from_json(result["spent"])


def _mean(costs: Sequence[Cost]) -> dict[str, float]:
    total = asdict(sum(costs, Cost()))
    return {unit: amount / len(costs) for unit, amount in total.items()}
