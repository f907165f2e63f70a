"""A comparison in Markdown, for a repository to show: compare.json in, the verdict and two tables out."""

from collections.abc import Mapping
from typing import Any

from nanoschool.ledger import OVER, Budget
from nanoschool.report.markdown import interval, table

Told = Mapping[str, Any]
STARTS = {"start": "less the start at its best", "start in chat": "less the start in chat"}


def markdown(told: Told) -> str:
    """Every arm's score, what it is above the start (at its best, and asked in chat), its pass@k, distance and cost; and
    what was forgotten elsewhere."""
    plan, bill = told["comparison"], told["bill"]
    hours = sum(bill["seconds"].values()) / 3600
    lines = [
        f"# {plan['env']} from {plan['start']}, {plan['budget']} for each arm and seed",
        "",
        f"`{told['command']}`: {hours:.1f} hours of processes in all, one thread each, learning rates and evaluation "
        "included.",
        "",
        f"**{told['verdict']['words']}.**",
        "",
        f"Greedy reward on {plan['problems']} test problems, read once, mean over {plan['seeds']} seeds with its 95 % "
        "interval (hierarchical bootstrap); differences are paired by problem, p is Holm's over the family of "
        f"{told['verdict']['family']} pairs; pass@k of {plan['attempts']} attempts at {plan['pass_problems']} problems. "
        f"The checkpoint and one of three learning rates are chosen on dev ({plan['dev']} problems).",
        "",
        *_arms(told),
        "",
        *_beyond(told),
        *_elsewhere(told),
    ]
    lines += [f"Without {name}: {reason}." for name, reason in told["absent"].items()]
    return "\n".join(lines) + "\n"


def _arms(told: Told) -> list[str]:
    attempts = str(told["comparison"]["attempts"])
    starts = [start for start in STARTS if start in told["arms"]]
    found = {(pair["before"], pair["after"]): pair for pair in told["pairs"]}
    head = [
        "arm",
        "test",
        *(word for start in starts for word in (STARTS[start], "p")),
        "pass@1",
        f"pass@{attempts}",
        "KL a reply",
        "lr",
        "rollouts",
        "FLOPs",
        "s a seed",
    ]
    rows = []
    for name, arm in sorted(told["arms"].items(), key=lambda item: -item[1]["test"]["mean"]):
        gains = [found.get((start, name)) for start in starts]
        passk, cost = arm.get("passk"), arm.get("cost")
        rows.append(
            [
                f"{name} ({arm['kind']})",
                interval(arm["test"]),
                *(word for gain in gains for word in _gain(gain)),
                f"{passk['1']['mean']:.3f}" if passk else "",
                f"{passk[attempts]['mean']:.3f}" if passk else "",
                f"{arm['distance']['sequence']['mean']:.2f}" if "distance" in arm else "",
                f"{arm['lr']:g}" if arm.get("lr") else "",
                f"{cost['rollouts']:,.0f}" if cost else "",
                f"{cost['flops']:.3g}" if cost else "",
                f"{arm['seconds']:.0f}" if "seconds" in arm else "",
            ]
        )
    return table(head, rows)


def _beyond(told: Told) -> list[str]:
    """Whose steps, which are not divided, took an arm beyond its budget."""
    budget = Budget.parse(told["comparison"]["budget"])
    times = {
        name: arm["cost"][budget.unit] / budget.limit
        for name, arm in told["arms"].items()
        if "seconds" in arm
    }
    over = [f"{name} {ratio:.2f} times" for name, ratio in times.items() if ratio > OVER]
    if not over:
        return []
    return [f"A step is not divided, so some spent more than their budget: {', '.join(over)}.", ""]


def _gain(pair: Told | None) -> tuple[str, str]:
    return (interval(pair["difference"], "+"), f"{pair['p_holm']:.2g}") if pair else ("", "")


def _elsewhere(told: Told) -> list[str]:
    found = {name: arm["elsewhere"] for name, arm in told["arms"].items() if arm.get("elsewhere")}
    worlds = list(next(iter(found.values()), {}))
    if not worlds:
        return []
    one = next(iter(found.values()))
    rows = [["start", *(f"{one[world]['before']['mean']:.3f}" for world in worlds)]]
    for name, changes in found.items():
        cells = []
        for world in worlds:
            change = changes[world]["difference"]
            sure = change["low"] > 0 or change["high"] < 0
            cells.append(f"**{change['mean']:+.3f}**" if sure else f"{change['mean']:+.3f}")
        rows.append([name, *cells])
    n = f"n = {told['comparison']['seeds']} × {told['comparison']['elsewhere']}"
    return [
        f"What changed elsewhere ({n}; bold where the 95 % interval leaves out 0):",
        "",
        *table(["", *worlds], rows),
        "",
    ]
