"""How far a skill reaches: pass@k against the number of attempts, accuracy against the length of the problem."""

from math import ceil

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nanoschool.report.reading import Run
from nanoschool.report.scores import NUMBERS, Score, best_format, passk, worlds
from nanoschool.report.style import LIGHT, colour, label_ends, marker

# One line of a panel: its name, its stage, whether it is solid (chat) or dashed (plain text), its points.
Line = tuple[str, str, bool, dict[int, Score]]


def pass_at_k(run: Run) -> Figure | None:
    """A panel a world: pass@k against k after every stage, in the format it was asked in, with 95 % intervals."""
    found = passk(run)
    if not found:
        return None
    figure, panels = _panels(len(found))
    for axes, (world, stages) in zip(panels, found.items(), strict=True):
        lines = [(f"{stage} · {form}", stage, form == "chat", ks) for (stage, form), ks in stages.items()]
        _draw(axes, lines)
        axes.set_xscale("log", base=2)
        ticks = sorted({k for ks in stages.values() for k in ks})
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.minorticks_off()
        ends = [(name, stage, max(ks), 100 * ks[max(ks)].mean) for name, stage, _, ks in lines]
        label_ends(axes, [(k, y, f"{name} {y:.0f}", colour(stage)) for name, stage, k, y in ends], 9)
        axes.set_title(f"{world}, pass@k (%)")
        axes.set_xlabel("attempts k")
    return figure


def along(run: Run, what: str) -> Figure | None:
    """A panel a world: accuracy along a number of `NUMBERS`, in chat after every stage, and in the first stage's best
    plain format. The numbers stand evenly spaced, whatever their distances."""
    found: dict[str, list[Line]] = {}
    for world, scores in worlds(run).items():
        lines = [(stage, stage, True, s.along(what)) for (stage, form), s in scores.items() if form == "chat"]
        first = run.stages[0]
        best = best_format({key: s for key, s in scores.items() if s.along(what)}, first)
        if best and best[0] != "chat":
            lines.insert(0, (f"{first}, {best[0]}", first, False, best[1].along(what)))
        if lines := [line for line in lines if line[3]]:
            found[world] = lines
    if not found:
        return None
    figure, panels = _panels(len(found))
    handles: dict[str, tuple[Artist, str]] = {}
    for axes, (world, lines) in zip(panels, found.items(), strict=True):
        ticks = sorted({x for line in lines for x in line[3]})
        place = {x: i for i, x in enumerate(ticks)}
        _draw(axes, [(*line[:3], {place[x]: s for x, s in line[3].items()}) for line in lines])
        axes.set_xticks(list(place.values()), [str(x) for x in ticks])
        axes.set_title(f"{world}, accuracy (%)")
        axes.set_xlabel(NUMBERS[what])
        drawn = axes.get_legend_handles_labels()[0]
        handles |= {line[0]: (handle, line[1]) for handle, line in zip(drawn, lines, strict=True)}
    legend = figure.legend(
        [handle for handle, _ in handles.values()],
        list(handles),
        loc="outside right upper",
        frameon=False,
        fontsize=8,
    )
    for text, (_, stage) in zip(legend.get_texts(), handles.values(), strict=True):
        text.set_color(colour(stage))
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """A lone panel is half a page wide, for two to stand side by side."""
    columns = min(3, count)
    lines = ceil(count / columns)
    figure = Figure(figsize=(4.7 if count == 1 else 9.6, 2.7 * lines), layout="constrained")
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for unused in grid[count:]:
        unused.set_visible(False)
    return figure, grid[:count]


def _draw(axes: Axes, lines: list[Line]) -> None:
    for name, stage, solid, points in lines:
        hue = colour(stage)
        axes.plot(
            list(points), [100 * s.mean for s in points.values()],
            color=hue, marker=marker(stage), markersize=4.2, label=name,
            linestyle="-" if solid else (0, (4, 2)), markerfacecolor=hue if solid else LIGHT["paper"],
        )  # fmt: skip
        for x, s in points.items():
            if s.low is not None and s.high is not None:
                axes.plot([x, x], [100 * s.low, 100 * s.high], color=hue, linewidth=3.2, alpha=0.35)
    axes.set_ylim(-4, 106)
    axes.set_yticks([0, 25, 50, 75, 100])
