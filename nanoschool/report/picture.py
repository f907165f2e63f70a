"""One SVG of a run for a README: its headlines and its main charts, light or dark as the reader's system is."""

from html import escape
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from nanoschool.report import accuracy, headline, learning, reach
from nanoschool.report.reading import Run, read
from nanoschool.report.scores import ns, worlds
from nanoschool.report.style import RC, svg, theme

WIDTH, MARGIN, GAP, CARD = 740, 24, 14, 109


def picture(run_dir: Path) -> str:
    """The text of a standalone SVG file. Raises UserError as `read` does."""
    run = read(run_dir)
    parts, y = _headlines(run, MARGIN)
    with matplotlib.rc_context(RC):
        pair = [reach.pass_at_k(run), reach.along(run, "length")]
        if any(figure is not None and figure.get_figwidth() > 5 for figure in pair):
            rows = [
                [accuracy.accuracy(run)],
                [pair[0]],
                [pair[1]],
            ]  # several worlds: each chart has its own row
        else:
            rows = [[accuracy.accuracy(run)], pair]
        rows += [[learning.practice(run, stage)] for stage in run.rewarded]
        for row in rows:
            drawn, height = _row([figure for figure in row if figure is not None], y)
            parts += drawn
            y += height
    parts.append(_text(MARGIN, y + 8, _caption(run), 8.5, "muted"))
    y += MARGIN
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head = f'<svg {names} viewBox="0 0 {WIDTH} {y:.0f}">'
    style = f"<style>{theme()} text {{ font-family: var(--font); }} * {{ stroke-linejoin: round; }}</style>"
    paper = f'<rect width="{WIDTH}" height="{y:.0f}" rx="10" style="fill: var(--paper)"/>'
    return "\n".join([head, style, paper, *parts, "</svg>"]) + "\n"


def _caption(run: Run) -> str:
    scores = [s for found in worlds(run).values() for s in found.values()]
    seed = run.summary.number("seed")
    what = f"One run{'' if seed is None else f', seed {seed}'}; held-out problems, {ns(scores)} a dot"
    return f"{what}; bars are 95 % intervals over problems; hollow and dashed: plain text instead of chat."


def _text(x: float, y: float, words: str, size: float, colour: str, weight: int = 400) -> str:
    style = f"font-size: {size}px; font-weight: {weight}; fill: var(--{colour})"
    return f'<text x="{x:.0f}" y="{y:.0f}" style="{style}">{escape(words)}</text>'


def _headlines(run: Run, y: float) -> tuple[list[str], float]:
    facts, parts = headline.facts(run)[:3], []
    step = (WIDTH - 2 * MARGIN + GAP) / 3
    for i, fact in enumerate(facts):
        x = MARGIN + i * step
        hue = f"var(--{fact.stage})" if fact.stage in ("pretrain", "sft", "rl") else "var(--muted)"
        parts.append(
            f'<rect x="{x:.0f}" y="{y}" width="{step - GAP:.0f}" height="{CARD}" style="fill: var(--card)"/>'
        )
        parts.append(f'<rect x="{x:.0f}" y="{y}" width="{step - GAP:.0f}" height="2.5" style="fill: {hue}"/>')
        parts.append(_text(x + 12, y + 20, fact.name, 10, "ink", 600))
        parts.append(_text(x + 12, y + 44, fact.number, 20, "ink", 700))
        parts += [_text(x + 12, y + 60 + 13 * j, line, 9, "muted") for j, line in enumerate(fact.beside)]
    return parts, y + (CARD + 22 if facts else 0)


def _row(figures: list[Figure], y: float) -> tuple[list[str], float]:
    parts, x, tallest = [], float(MARGIN), 0.0
    for figure in figures:
        width, height = (72 * side for side in figure.get_size_inches())
        at = f'<svg x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" '
        parts.append(svg(figure, f"chart at {x:.0f}, {y:.0f}").replace("<svg ", at, 1))
        x, tallest = x + width + GAP, max(tallest, height)
    return parts, tallest + (GAP if figures else 0)
