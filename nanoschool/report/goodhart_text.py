"""The experiment on over-optimisation in Markdown, for a repository to show: its entries in, a table a size out."""

from collections.abc import Mapping, Sequence
from typing import Any

from nanoschool.report.markdown import interval, table

HEAD = [
    "arm",
    "judge right",
    "gold, start",
    "gold, highest",
    "at √KL",
    "gold, end",
    "at √KL",
    "judge's score, end",
    "alarm at step",
    "its own form of Gao et al. holds (R²)",
]


def markdown(told: Sequence[Mapping[str, Any]]) -> str:
    """`told` is goodhart.json, as lab/frontier.py summarises an arm at a size."""
    lines = []
    for size in dict.fromkeys(entry["size"] for entry in told):
        same = [entry for entry in told if entry["size"] == size]
        seeds, problems = len(same[0]["seeds"]), same[0]["curve"][0]["gold"]["n"]
        lines += [f"### {size:,} comparisons ({seeds} seeds, {problems} test problems)", ""]
        lines += [*table(HEAD, [_row(entry) for entry in same]), ""]
    return "\n".join(lines)


def _row(entry: Mapping[str, Any]) -> list[str]:
    peak, end, fit = entry["peak"], entry["end"], entry["fits"][entry["form"]]["all"]
    return [
        entry["arm"],
        f"{100 * entry['judge']:.1f} %",
        interval(entry["curve"][0]["gold"], digits=2),
        interval(peak["gold"], digits=2),
        f"{peak['distance']:.2f}",
        interval(end["gold"], digits=2),
        f"{end['distance']:.2f}",
        f"{end['proxy']['mean']:.2f}",
        ", ".join("–" if step is None else str(step) for step in entry["alarms"]),
        f"{'yes' if fit['holds'] else 'no'} ({fit['r2']:.2f})",
    ]
