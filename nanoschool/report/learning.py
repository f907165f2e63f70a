"""Charts of how a run learned: loss, bits per byte, and what reinforcement does to a policy step by step."""

import tomllib
from collections.abc import Sequence
from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nanoschool.report.reading import Run
from nanoschool.report.style import LIGHT, colour, label_ends, marker

NAMES = {"pretrain": "Reading · pretraining", "sft": "Imitation · SFT", "rl": "Practice · RL"}
# name in metrics.jsonl -> what the panel is called; a name that a run did not log has no panel
PRACTICE = {
    "reward": "reward",
    "paid": "paid by the judge",
    "kl": "KL to the start (nats)",
    "entropy": "entropy (nats a token)",
    "zero_variance": "groups without variance",
    "answer_tokens": "answer length (tokens)",
    "cut_off": "replies cut off",
}


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """The centred running mean; at the ends, over the part of the window that exists."""
    kernel = np.ones(window)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def window(count: int) -> int:
    """Odd, and a twentieth of the curve: enough to see a trend, too little to invent one."""
    return max(1, count // 20) | 1


def _curve(axes: Axes, x: Sequence[float], y: Sequence[float], hue: str) -> np.ndarray:
    trend = smooth(y, min(window(len(y)), len(y)))
    axes.plot(x, y, color=hue, alpha=0.28, linewidth=0.8)
    axes.plot(x, trend, color=hue)
    return trend


def loss(run: Run) -> Figure | None:
    """One panel a stage that minimises a loss: training steps, their running mean, and the dev loss as dots."""
    stages = [
        s
        for s in run.stages
        if s not in run.rewarded
        and not run.curve(s, "agreement", "dev")[0]  # a reward model's is of comparisons, not of tokens
        and (run.curve(s, "loss")[0] or run.curve(s, "loss", "dev")[0])
    ]
    if not stages:
        return None
    figure = Figure(figsize=(9.6, 2.7), layout="constrained")
    for axes, stage in zip(np.ravel(figure.subplots(1, len(stages), squeeze=False)), stages, strict=True):
        hue, ends = colour(stage), []
        x, y = run.curve(stage, "loss")
        if x:
            trend = _curve(axes, x, y, hue)
            ends.append((x[-1], float(trend[-1]), f"train {trend[-1]:.2f}", hue))
        dev_x, dev_y = run.curve(stage, "loss", "dev")
        if dev_x:
            axes.plot(dev_x, dev_y, color=LIGHT["ink"], linewidth=1, marker="o", markersize=3.2)
            ends.append((dev_x[-1], dev_y[-1], f"dev {dev_y[-1]:.2f}", LIGHT["ink"]))
        low, high = min(y + dev_y), max(y + dev_y)
        room = (high - low) or 1.0  # a single step has no range
        axes.set_ylim(low - 0.06 * room, high + 0.06 * room)
        label_ends(axes, ends, 0.1 * room)
        axes.set_title(NAMES.get(stage, stage), color=hue)
        axes.set_xlabel("step")
        axes.set_xlim(0, max(x + dev_x))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    figure.axes[0].set_ylabel("loss (nats a token)")
    return figure


def bits_per_byte(run: Run) -> Figure | None:
    """Dev bits per byte through the whole school; each stage is one unit wide, whatever it cost."""
    curves = {}
    for place, stage in enumerate(run.stages):
        steps, values = run.curve(stage, "bits_per_byte", "dev")
        if steps:
            curves[stage] = [place + min(1.0, run.fraction(stage, step)) for step in steps], values
    if not curves:
        return None
    figure = Figure(figsize=(9.6, 2.4), layout="constrained")
    axes = figure.subplots()
    for stage, (x, y) in curves.items():
        axes.plot(x, y, color=colour(stage), marker=marker(stage), markersize=3.6)
    highest = max(max(y) for _, y in curves.values())
    axes.set_ylim(0, 1.12 * highest)
    for stage, (x, y) in curves.items():
        axes.annotate(
            f"{y[-1]:.3f}",
            (x[-1], y[-1]),
            (-2, 7),
            textcoords="offset points",
            ha="right",
            color=colour(stage),
            fontsize=8,
        )
    places = range(len(run.stages))
    for place in places[1:]:
        axes.axvline(place, color=LIGHT["grid"], linewidth=1.4)
    axes.set_xlim(0, len(run.stages) + 0.02)
    axes.set_xticks([place + 0.5 for place in places], [NAMES.get(s, s) for s in run.stages])
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("bits per byte")
    return figure


def looked(run: Run, stage: str) -> int | None:
    """The dev problems of each look: as the look says, or as the settings ask for."""
    asked = tomllib.loads(run.settings).get("evaluation", {}).get("look")
    return run.looked_at(stage, "problems") or asked


def practice(run: Run, stage: str) -> Figure | None:
    """Small panels of what a rewarded stage logs: reward (and its dev score), entropy, dead groups, answer length."""
    curves = {name: run.curve(stage, name) for name in PRACTICE}
    curves = {name: curve for name, curve in curves.items() if curve[0]}
    if not curves:
        return None
    columns = len(curves) if len(curves) <= 4 else 3
    lines = ceil(len(curves) / columns)
    figure = Figure(figsize=(9.6, 2.15 * lines), layout="constrained")
    hue = colour(stage)
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for unused in grid[len(curves) :]:
        unused.set_visible(False)
    for axes, (name, (x, y)) in zip(grid, curves.items(), strict=False):
        trend = _curve(axes, x, y, hue)
        top = max(y)
        if name == "reward":
            dev_x, dev_y = run.curve(stage, "score", "dev")
            axes.plot(dev_x, dev_y, color=LIGHT["ink"], linewidth=1, marker="o", markersize=3.2)
            if dev_x:
                n = looked(run, stage)
                axes.annotate(
                    f"dev, greedy, n = {n:,}" if n else "dev, greedy",
                    (dev_x[-1], dev_y[-1]),
                    (0, 7),
                    textcoords="offset points",
                    ha="right",
                    fontsize=8,
                )
                top = max(top, *dev_y)
        axes.set_title(PRACTICE[name], fontsize=8.5)
        now = f"{trend[-1]:.2f}" if top < 10 else f"{trend[-1]:.0f}"
        axes.set_title(now, loc="right", color=hue, fontsize=8.5)
        axes.set_ylim(min(0, *y), 1.15 * top if top > 0 else 1)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    return figure


def compression(run: Run) -> Figure | None:
    """Bits per byte of the model and of general compressors on the same bytes; less is better."""
    node = run.summary.node("compression")
    values = {key: value for key in node if key != "bytes" and (value := node.number(key)) is not None}
    if not values:
        return None
    figure = Figure(figsize=(9.6, 0.5 + 0.3 * len(values)), layout="constrained")
    axes = figure.subplots()
    order = sorted(values, key=lambda name: values[name])
    hues = [LIGHT["pretrain"] if name == "model" else LIGHT["muted"] for name in order]
    axes.barh(range(len(order)), [values[name] for name in order], color=hues, height=0.55)
    for y, name in enumerate(order):
        axes.annotate(
            f"{values[name]:.3f}", (values[name], y), (5, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(order)), order)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 1.1 * max(values.values()))
    axes.set_xlabel("bits per byte")
    return figure
