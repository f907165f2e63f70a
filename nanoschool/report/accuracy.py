"""Dot-and-interval charts: accuracy on every world after every stage, and what one stage changed, pair by pair."""

from collections.abc import Callable
from math import ceil

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nanoschool.report.node import Node
from nanoschool.report.reading import Run
from nanoschool.report.scores import Score, percent, score, worlds
from nanoschool.report.style import LIGHT, colour, marker


def accuracy(run: Run) -> Figure | None:
    """A panel a world, a row for every stage and answer format: dot, 95 % interval and number; base formats hollow."""
    scores = worlds(run)
    if not scores:
        return None
    rows = sorted({key for found in scores.values() for key in found}, key=_order(run))
    columns = min(4, len(scores))
    lines = ceil(len(scores) / columns)
    figure = Figure(figsize=(9.6, lines * (0.55 + 0.25 * len(rows)) + 0.1), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes, (world, found) in zip(grid.flat, scores.items(), strict=False):
        for y, key in enumerate(rows):
            if key in found:
                _dot(axes, found[key], y, key[0], hollow=key[1] != "chat")
        for y in range(1, len(rows)):
            if rows[y][0] != rows[y - 1][0]:
                axes.axhline(y - 0.5, color=LIGHT["grid"], linewidth=1.2)
        axes.set_title(world)
        _share_axis(axes)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_yticks([])
        for y, (stage, form) in enumerate(rows if axes in grid[:, 0] else []):
            axes.annotate(
                f"{stage} · {form}", (-3, y), (-6, 0), textcoords="offset points", ha="right", va="center",
                color=colour(stage), fontsize=8, annotation_clip=False,
            )  # fmt: skip
    for axes in grid.flat[len(scores) :]:
        axes.set_visible(False)
    return figure


def gain(run: Run) -> Figure | None:
    """Left: before, the base model's best format, after. Right: the paired differences, with zero drawn."""
    node = run.summary.node("gain")
    before, after = node.text("from") or "sft", node.text("to") or "rl"
    found = worlds(run).get(node.text("world") or "", {})
    best = node.node("best_before")
    asked = [(f"{before} · chat", before, False, found.get((before, "chat")) or _bare(node, "before"))]
    if base := score(best):
        stage = best.text("stage") or "pretrain"
        asked.append((f"{stage} · {best.text('format') or 'best'}", stage, True, base))
    asked.append((f"{after} · chat", after, False, found.get((after, "chat")) or _bare(node, "after")))
    rows = [(name, stage, hollow, s) for name, stage, hollow, s in asked if s]
    named = [
        (f"{after} − {before}", colour(after), score(node.node("difference"))),
        (f"{after} − best before", LIGHT["other"], score(node.node("beyond"))),
    ]
    differences = [(name, hue, s) for name, hue, s in named if s]
    if not rows or not differences:
        return None
    figure = Figure(figsize=(9.6, 1.75), layout="constrained")
    left, right = figure.subplots(1, 2)
    for y, (_, stage, hollow, measured) in enumerate(rows):
        _dot(left, measured, y, stage, hollow)
    _share_axis(left)
    left.set_title("accuracy (%)")
    for y, (_, hue, measured) in enumerate(differences):
        _line(right, measured, y, hue)
        right.plot(100 * measured.mean, y, marker="D", color=hue, markersize=5.5)
        right.annotate(
            f"{100 * measured.mean:+.1f}", (100 * measured.mean, y), (0, 8), textcoords="offset points", ha="center",
            color=hue, fontsize=8.5, fontweight="bold",
        )  # fmt: skip
    right.axvline(0, color=LIGHT["muted"], linewidth=1)
    ends = [100 * v for _, _, d in differences for v in (d.mean, d.low, d.high) if v is not None]
    right.set_xlim(min(-5, min(ends) - 8), max(5, max(ends) + 8))
    right.set_title("paired difference (points)")
    for axes, names in ((left, [row[0] for row in rows]), (right, [row[0] for row in differences])):
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.7)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
    return figure


def _bare(node: Node, key: str) -> Score | None:
    value = node.number(key)
    return None if value is None else Score(value)


def _order(run: Run) -> Callable[[tuple[str, str]], tuple[int, bool, str]]:
    return lambda key: (run.stages.index(key[0]), key[1] == "chat", key[1])


def _line(axes: Axes, s: Score, y: float, hue: str) -> None:
    if s.low is not None and s.high is not None:
        axes.plot([100 * s.low, 100 * s.high], [y, y], color=hue, linewidth=4, alpha=0.38)


def _dot(axes: Axes, s: Score, y: float, stage: str, hollow: bool) -> None:
    hue = colour(stage)
    _line(axes, s, y, hue)
    face = LIGHT["paper"] if hollow else hue
    axes.plot(
        100 * s.mean, y, marker=marker(stage), color=hue, markerfacecolor=face, markersize=5, clip_on=False
    )
    right = s.mean < 0.55  # the number stands on the side that has room
    edge = (s.high if right else s.low) if s.low is not None and s.high is not None else s.mean
    axes.annotate(
        percent(s.mean, 0)[:-2], (100 * edge, y), (7 if right else -7, 0), textcoords="offset points", va="center",
        ha="left" if right else "right", fontsize=8, color=LIGHT["ink"],
    )  # fmt: skip


def _share_axis(axes: Axes) -> None:
    axes.set_xlim(-3, 103)
    axes.set_xticks([0, 25, 50, 75, 100])
