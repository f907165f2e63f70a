"""Chart: what it does by how often the text told of a person: is right, is wrong, says so, asks a tool; stage by stage."""

from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nanoschool.report.node import Node
from nanoschool.report.reading import Run
from nanoschool.report.scores import Score, score
from nanoschool.report.style import LIGHT, colour
from nanoschool.report.unknowns import WORDS, said, worlds_with_unknowns

HUES = {
    "right": "rl",
    "abstain": "muted",
    "look": "pretrain",
    "call": "other",
    "nonsense": "grid",
    "wrong": "bad",
}


def by_exposure(run: Run) -> Figure | None:
    """A line of panels a world, a column a stage: bars of acts, one for each weight that people have in the text."""
    asked = {
        world: {s: said(run, s, world).node("acts_by_exposure") for s in run.stages}
        for world in worlds_with_unknowns(run)
    }
    found = {world: nodes for world, nodes in asked.items() if any(nodes.values())}
    if not found:
        return None
    figure = Figure(figsize=(9.6, 0.5 + 1.6 * len(found)), layout="constrained")
    grid = figure.subplots(len(found), len(run.stages), squeeze=False, sharey=True)
    for line, (world, nodes) in zip(grid, found.items(), strict=True):
        for axes, (stage, node) in zip(line, nodes.items(), strict=True):
            _bars(axes, node)
            axes.set_title(f"{world} · {stage} (%)", color=colour(stage))
    occurred = {
        act
        for nodes in found.values()
        for node in nodes.values()
        for group in node
        for act in node.node(group)
    }
    acts = [act for act in HUES if act in occurred]
    figure.legend(
        [Patch(color=LIGHT[HUES[act]]) for act in acts], [WORDS[act] for act in acts],
        loc="outside lower center", ncols=len(acts), frameon=False, fontsize=8,
    )  # fmt: skip
    return figure


def shares(run: Run) -> list[Score]:
    """Every share that the chart draws, for its caption's n."""
    nodes = [
        said(run, s, world).node("acts_by_exposure")
        for world in worlds_with_unknowns(run)
        for s in run.stages
    ]
    return [
        s
        for node in nodes
        for group in node
        for act in node.node(group)
        if (s := score(node.node(group).node(act)))
    ]


def _bars(axes: Axes, node: Node) -> None:
    for place, group in enumerate(node):
        means = [s.mean if (s := score(node.node(group).node(act))) else 0.0 for act in HUES]
        ends = [100 * sum(means[:i]) for i in range(len(means) + 1)]
        for act, (low, high) in zip(HUES, pairwise(ends), strict=True):
            if high > low:
                axes.bar(place, high - low, bottom=low, width=0.8, color=LIGHT[HUES[act]])
    axes.set_xticks(range(len(list(node))), list(node))
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 50, 100])
    axes.tick_params(axis="x", length=0, labelsize=7)
    axes.grid(axis="x", visible=False)
