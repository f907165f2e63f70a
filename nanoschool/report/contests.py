"""Charts of a comparison: scores, the way there by what it cost, pass@k, and the distance from the start."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nanoschool.report.style import LIGHT, label_ends

# Methods have colours that can be told apart on paper and on black; controls are grey, and told apart by their dashes.
HUES = (
    *(LIGHT[n] for n in ("pretrain", "sft", "rl", "other", "bad")),
    "#6f7d00",
    "#0f8f9c",
    "#b4568f",
    "#8a6d3b",
    "#5865d8",
)
DASHES = ("--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
AXES = {
    "flops": "FLOPs of practice",
    "rollouts": "rollouts",
    "bits": "bits offered by the signal",
    "seconds": "seconds of practice, on one thread",
}
GRID = 40  # points at which the seeds' curves are averaged

Told = Mapping[str, Any]


def looks(told: Told) -> dict[str, tuple[str, Any]]:
    """(colour, dash) of every trained arm."""
    trained = {name: arm for name, arm in told["arms"].items() if "curves" in arm}
    methods = [name for name, arm in trained.items() if arm["kind"] == "method"]
    controls = [name for name in trained if name not in methods]
    solid = {name: (hue, "-") for name, hue in zip(methods, cycle(HUES), strict=False)}
    return solid | {name: (LIGHT["muted"], dash) for name, dash in zip(controls, cycle(DASHES), strict=False)}


def forest(told: Told) -> Figure:
    """Every arm's test score with its interval, the best on top."""
    arms = sorted(told["arms"].items(), key=lambda item: item[1]["test"]["mean"])
    figure = Figure(figsize=(9.6, 0.7 + 0.3 * len(arms)), layout="constrained")
    axes, style = figure.subplots(), looks(told)
    for y, (name, arm) in enumerate(arms):
        test, method = arm["test"], arm["kind"] == "method"
        hue = style[name][0] if name in style else LIGHT["ink"]
        axes.plot([test["low"], test["high"]], [y, y], color=hue, linewidth=1.6)
        axes.plot(
            [test["mean"]],
            [y],
            "o",
            color=hue,
            markerfacecolor=hue if method else LIGHT["paper"],
            markersize=6,
        )
        axes.annotate(
            f"{test['mean']:.3f}", (test["high"], y), (6, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(arms)), [name for name, _ in arms])
    axes.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
    axes.grid(axis="y", visible=False)
    axes.axvline(told["arms"]["start"]["test"]["mean"], color=LIGHT["muted"], linewidth=0.8, linestyle=":")
    axes.set_xlabel("reward on the test")
    axes.margins(x=0.1)
    return figure


def curves(told: Told) -> Figure:
    """A panel for every unit that anyone spent: score on dev against what practice had cost."""
    trained = {name: arm["curves"] for name, arm in told["arms"].items() if "curves" in arm}
    units = [u for u in AXES if any(look[u] for seeds in trained.values() for look in seeds[0])]
    style, rows = looks(told), (len(units) + 1) // 2
    figure = Figure(figsize=(9.6, 3.0 * rows), layout="constrained")
    grid = list(figure.subplots(rows, 2, squeeze=False).flat)
    for axes, unit in zip(grid, units, strict=False):
        for name, seeds in trained.items():
            _curve(axes, name, seeds, unit, *style[name])
        axes.set_xlabel(AXES[unit])
        axes.set_ylabel("reward on dev")
    for unused in grid[len(units) :]:
        unused.set_visible(False)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def _curve(axes: Axes, name: str, seeds: Sequence[Sequence[Told]], unit: str, hue: str, dash: Any) -> None:
    """Every seed, faint, and their mean over the stretch that all of them have."""
    lines = [([look[unit] for look in looks], [look["dev"] for look in looks]) for looks in seeds]
    for x, y in lines:
        axes.plot(x, y, color=hue, alpha=0.18, linewidth=0.7, linestyle=dash)
    x_G = np.linspace(max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines), GRID)
    mean_G = np.mean([np.interp(x_G, x, y) for x, y in lines], axis=0)
    axes.plot(x_G, mean_G, color=hue, linestyle=dash, label=name)


def pass_at_k(told: Told) -> Figure:
    """pass@k of the start and of every trained arm."""
    style = looks(told)
    figure = Figure(figsize=(4.7, 3.4), layout="constrained")
    axes, ends = figure.subplots(), []
    for name, arm in told["arms"].items():
        if "passk" not in arm:
            continue
        hue, dash = style.get(name, (LIGHT["ink"], "-"))
        ks = [int(k) for k in arm["passk"]]
        means = [one["mean"] for one in arm["passk"].values()]
        if name in style:
            axes.plot(ks, means, color=hue, linestyle=dash)
        else:
            axes.plot(ks, means, color=hue, marker="o", markersize=3.5, linewidth=2.2)
        ends.append((ks[-1], means[-1], name, hue))
    axes.set_xscale("log", base=2)
    axes.set_xticks(ks, [str(k) for k in ks])
    low, high = axes.get_ylim()
    label_ends(axes, ends, (high - low) / 17)
    axes.set_xlabel("k")
    axes.set_ylabel("pass@k")
    return figure


def distances(told: Told) -> Figure:
    """What was gained for how far an arm has gone."""
    style, base = looks(told), told["arms"]["start"]["test"]["mean"]
    figure = Figure(figsize=(4.7, 3.4), layout="constrained")
    axes = figure.subplots()
    for name, (hue, _) in style.items():
        arm = told["arms"][name]
        far, gain = arm["distance"]["sequence"], arm["test"]["mean"] - base
        axes.plot([far["least"], far["most"]], [gain, gain], color=hue, linewidth=0.9, alpha=0.6)
        axes.plot([far["mean"]], [gain], "o", color=hue, markersize=5)
        axes.annotate(name, (far["mean"], gain), (4, 4), textcoords="offset points", color=hue, fontsize=7.5)
    axes.axhline(0.0, color=LIGHT["muted"], linewidth=0.8, linestyle=":")
    axes.set_xlabel("KL from the start (nats a sequence)")
    axes.set_ylabel("gain on the test")
    return figure
