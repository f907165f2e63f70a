"""The page of an x-ray: one lucky attempt token by token under every method, and every method's marks over many.

Reads what `nanoschool xray` wrote as JSON; the same file gives the same page, byte for byte.
"""

from collections.abc import Iterator
from html import escape
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from nanoschool.report import replaced
from nanoschool.report.lucky import SHEET_OF_TOKENS, lucky
from nanoschool.report.node import Node, read_object
from nanoschool.report.sheet import SHEET
from nanoschool.report.style import LIGHT, RC, svg, theme
from nanoschool.report.tables import row, table
from nanoschool.types import UserError

MARKS = {  # of a method: what stands above its column
    "correlation": "correlation with the true advantage",
    "cosine": "cosine with the true gradient",
    "sign": "right sign, where it matters",
    "idle": "share of credit on idle steps",
    "lucky": "undeserved steps pushed up",
    "harm": "harmful steps pushed up",
    "signal_to_noise": "signal to noise of the gradient",
    "perfect": "correlation under perfect play",
}


def write(path: Path) -> Path:
    """Write the page of the x-ray in the file `path`, a .json, beside it; returns where. UserError on a malformed file."""
    target = path.with_suffix(".html")
    replaced(target, render(read(path)))
    return target


def read(path: Path) -> Node:
    """What the file holds. Raises UserError where it is not there, or malformed."""
    missing: list[str] = []
    seen = read_object(path, missing)
    if missing:
        raise UserError(f"{path}: is not there; nanoschool xray writes it")
    return seen


def render(seen: Node) -> str:
    with matplotlib.rc_context(RC):
        body = "\n".join(_body(seen))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>x-ray of {escape(seen.text('from') or '')}</title>\n"
        f"<style>{theme()}{SHEET}{SHEET_OF_TOKENS}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def lines(seen: Node) -> list[str]:
    """The marks in plain lines, for the terminal."""
    names = {"correlation": "r", "sign": "sign", "idle": "idle", "lucky": "undeserved", "cosine": "cosine"}
    said = [_counts(seen)]
    for name in ranked(seen):
        marks = [
            f"{short} {_plain(seen.node('methods').node(name).node(key))}" for key, short in names.items()
        ]
        said.append(f"{name:<17}{'  '.join(marks)}")
    return said + [f"left out: {name}: {seen.node('left_out').text(name)}" for name in seen.node("left_out")]


def ranked(seen: Node) -> list[str]:
    """The methods, the best correlation first; those without one last."""
    found = seen.node("methods")

    def key(name: str) -> tuple[float, str]:
        r = found.node(name).node("correlation").number("mean")
        return (2.0 if r is None else -r), name

    return sorted(found, key=key)


def _body(seen: Node) -> Iterator[str]:
    plan, world = seen.node("plan"), seen.text("world") or ""
    yield '<p class="kicker">nanoschool · x-ray of credit</p><h1>Who deserved what</h1>'
    yield f'<p class="lede">{escape(seen.text("from") or "")} in {escape(world)} · {escape(_counts(seen))}</p>'
    forks, least = plan.number("forks") or 0, plan.number("least") or 0
    yield (
        f"<p>The same attempts were handed to every method, and what its own step would push on each token was read off its "
        f"loss. The truth beside it is the value of the state after each step less that before it: the mean reward of "
        f"{forks:g} rollouts of the same policy forked from that very place. A step whose advantage is within ±{least:g} "
        f"made no difference.</p>"
    )
    yield "<h2>One lucky attempt</h2>"
    yield from lucky(seen.node("lucky"), ranked(seen))
    yield "<h2>Over all attempts</h2>"
    yield _figure(seen)
    yield _marks(seen)
    for name in seen.node("left_out"):
        yield f'<p class="note">Left out: {escape(seen.node("left_out").text(name) or name)}.</p>'


def _figure(seen: Node) -> str:
    names = [n for n in ranked(seen) if seen.node("methods").node(n).node("correlation")][::-1]
    if not names:
        return ""
    found = [seen.node("methods").node(name).node("correlation") for name in names]
    mean, low, high = (np.array([f.number(key) or 0.0 for f in found]) for key in ("mean", "low", "high"))
    figure = Figure(figsize=(8.2, 0.24 * len(names) + 0.7))
    axes = figure.add_subplot()
    axes.errorbar(
        mean, range(len(names)), xerr=[mean - low, high - mean], fmt="o", ms=4, color=LIGHT["rl"], lw=1.2
    )
    axes.axvline(0, color=LIGHT["muted"], lw=0.8)
    if (ceiling := seen.node("truth").number("ceiling")) is not None:
        axes.axvline(ceiling, color=LIGHT["sft"], lw=1, ls="--")
    axes.set_yticks(range(len(names)), names)
    figure.tight_layout()
    caption = (
        f"Correlation over {seen.node('n').number('steps'):g} steps of a method's credit with the true advantage; 95 % "
        f"intervals by bootstrap over {seen.node('n').number('problems'):g} problems. Dashed: what the exact truth would "
        f"reach, for the measured one has an error of its own."
    )
    return f'<figure class="wide">{svg(figure, caption)}<figcaption>{escape(caption)}</figcaption></figure>'


def _marks(seen: Node) -> str:
    n = seen.node("n")
    of = {"sign": ("helpful", "harmful"), "lucky": ("lucky",), "harm": ("harm",)}
    head = ["method"]
    for key, words in MARKS.items():
        count = sum(int(n.number(name) or 0) for name in of.get(key, ("steps",)))
        head.append(f"{words}<br>n = {n.number('problems'):g} problems" if key in ("cosine", "signal_to_noise")
                    else f"{words}<br>n = {count:,} steps")  # fmt: skip
    rows = [
        row(
            [
                f'<span title="{escape(about)}">{escape(name)}</span>',
                *(_mark(marks.node(key)) for key in MARKS),
            ]
        )
        for name in ranked(seen)
        for marks in [seen.node("methods").node(name)]
        for about in [marks.text("about") or ""]
    ]
    return table(head, rows) + (
        '<p class="note">Undeserved: the steps of attempts that earned more than their problem was worth, that made no '
        "difference or did harm. 95 % intervals are over problems: bootstrap, for the gradient a jackknife. Empty: not "
        "defined, as where a method gives no credit.</p>"
    )


def _mark(mark: Node) -> str:
    return (
        f"{mark.number('mean'):.3f}<small>[{mark.number('low'):.3f}, {mark.number('high'):.3f}]</small>"
        if mark
        else ""
    )


def _plain(mark: Node) -> str:
    return (
        f"{mark.number('mean'):6.3f} [{mark.number('low'):.3f}, {mark.number('high'):.3f}]"
        if mark
        else f"{'—':^22}"
    )


def _counts(seen: Node) -> str:
    n = seen.node("n")
    parts = [f"{n.number(key) or 0:g} {key}" for key in ("problems", "attempts", "rewarded", "steps")]
    kinds = [f"{n.number(key) or 0:g} {key}" for key in ("helpful", "idle", "harmful")]
    return f"{', '.join(parts)} ({', '.join(kinds)})"
