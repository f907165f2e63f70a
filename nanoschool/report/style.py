"""How the page looks: one palette for charts and text, in a light and a dark set, and charts that follow it.

A chart is drawn once, in the light colours; in its SVG each of them is then replaced by the CSS variable of its name,
so the same picture turns dark with the page, without a script.
"""

import io
import re
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Stages are told apart by the first three of Okabe & Ito's colours, which hold for the colour-blind, and by markers.
LIGHT = {
    "ink": "#1d2430",
    "muted": "#667085",
    "grid": "#e3e7ee",
    "paper": "#fdfdfb",
    "card": "#f4f5f1",
    "pretrain": "#0c6cb0",
    "sft": "#c97a06",
    "rl": "#0a8f6a",
    "other": "#8a4fa3",
    "bad": "#c4314b",
}
DARK = {
    "ink": "#e8eaee",
    "muted": "#9aa4b5",
    "grid": "#2c3442",
    "paper": "#12161d",
    "card": "#1a202a",
    "pretrain": "#62b0f0",
    "sft": "#f0ab45",
    "rl": "#3fcf9f",
    "other": "#c592dd",
    "bad": "#ff7d90",
}
MARKERS = {"pretrain": "o", "sft": "s", "rl": "D"}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

RC: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be selected, and follows the page's font
    "font.size": 8.5,
    "text.color": LIGHT["ink"],
    "axes.edgecolor": LIGHT["grid"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.7,
    "xtick.color": LIGHT["grid"],
    "ytick.color": LIGHT["grid"],
    "xtick.labelcolor": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["muted"],
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


def colour(stage: str) -> str:
    return LIGHT.get(stage, LIGHT["other"])


def marker(stage: str) -> str:
    return MARKERS.get(stage, "^")


def spread(positions: list[float], gap: float) -> list[float]:
    """Positions moved apart to at least `gap`, in the same order and about the same middle: for direct labels."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    placed = [positions[i] for i in order]
    for _ in range(60):
        for i in range(len(placed) - 1):
            if (short := gap - (placed[i + 1] - placed[i])) > 1e-9:
                placed[i] -= short / 2
                placed[i + 1] += short / 2
    result = [0.0] * len(positions)
    for place, i in zip(placed, order, strict=True):
        result[i] = place
    return result


def label_ends(axes: Axes, ends: list[tuple[float, float, str, str]], gap: float) -> None:
    """Write each line's name beside its end: (x, y, text, colour), `gap` apart in units of y."""
    for (x, _, text, hue), y in zip(ends, spread([end[1] for end in ends], gap), strict=True):
        axes.annotate(
            text,
            (x, y),
            (6, 0),
            textcoords="offset points",
            va="center",
            color=hue,
            fontsize=8,
            annotation_clip=False,
        )


def svg(figure: Figure, label: str) -> str:
    """The figure as an inline SVG in the page's colours; `label` is what a screen reader says of it."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": label}):  # ids must differ between the charts of one page
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'\s*<style type="text/css">.*?</style>', "", text, flags=re.S)
    text = re.sub(r' id="(?![mp][0-9a-f]{10}")[^"]*"', "", text)  # keep only the ids that are referred to
    text = re.sub(r" ?font-family: [^;\"]*;?", "", text)
    for name, value in LIGHT.items():
        text = text.replace(value, f"var(--{name})")
    quoted = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return re.sub(
        r'<svg ([^>]*?)width="[\d.]+pt" height="[\d.]+pt"',
        rf'<svg role="img" aria-label="{quoted}" \1',
        text,
        count=1,
    )


def theme() -> str:
    """The CSS variables of both sets."""
    light, dark = (" ".join(f"--{name}: {value};" for name, value in p.items()) for p in (LIGHT, DARK))
    shared = f"--font: {FONT}; --unsure: 240 112 46;"
    return f":root {{ color-scheme: light dark; {shared} {light} }}\n" + (
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    )
