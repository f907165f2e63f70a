"""The page of the experiment on over-optimisation: curves by size of data, where Gao's forms hold, what was written."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import matplotlib

from nanoschool.report.node import Node
from nanoschool.report.overoptimisation import Line, Point, figure
from nanoschool.report.scores import score
from nanoschool.report.sheet import SHEET
from nanoschool.report.style import LIGHT, RC, svg, theme

HUES = [LIGHT[name] for name in ("ink", "pretrain", "sft", "rl", "other", "bad", "muted")]
ABREAST = 5  # lines of one chart


def page(told: Sequence[dict[str, Any]]) -> str:
    """`told` is goodhart.json: an entry for each arm and size of data, as lab/frontier.py summarises them."""
    with matplotlib.rc_context(RC):
        body = "\n".join(_body(told))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Over-optimisation</title>\n'
        f"<style>{theme()}{SHEET}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _body(told: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield '<p class="kicker">nanoschool · experiment</p><h1>When a learned reward is optimised</h1>'
    yield (
        '<p class="lede">Gold is what is meant, a formula; the judge is a reward model trained on noisy comparisons by '
        "gold. Every arm starts from one policy and is measured on the same test problems.</p>"
    )
    for size in dict.fromkeys(entry["size"] for entry in told):
        yield f"<h2>{size:,} comparisons</h2>"
        same = [entry for entry in told if entry["size"] == size]
        for first in range(0, len(same), ABREAST):
            some = same[first : first + ABREAST]
            problems, seeds = some[0]["curve"][0]["gold"]["n"], max(len(entry["seeds"]) for entry in some)
            words = (
                f"Means over {seeds} seeds and {problems} test problems; bars are 95 % intervals over problems. The "
                "judge's score is 0 on average, and 1 a standard deviation, over the replies that it learned from."
            )
            drawn = svg(
                figure([_line(e, HUES[i]) for i, e in enumerate(some)]), f"{size} from {first}: {words}"
            )
            yield f'<figure class="wide">{drawn}<figcaption>{words}</figcaption></figure>'
        yield _table(same)
        yield _fits(same)


def _line(entry: dict[str, Any], hue: str) -> Line:
    points = [
        Point(p["distance"], *(score(Node(p[key], "goodhart.json")) for key in ("proxy", "gold")))
        for p in entry["curve"]
    ]
    rang = [p["distance"] for p in entry["curve"] if p["step"] in entry["alarms"]]
    return Line(entry["arm"], hue, points, rang)


def _table(entries: Sequence[dict[str, Any]]) -> str:
    head = "<th>arm</th><th>judge right</th><th>gold, highest</th><th>at √KL</th><th>gold, end</th><th>at √KL</th>"
    head += "<th>judge's score, end</th><th>alarm at step</th><th>written at the end, first problem</th>"
    rows = []
    for entry in entries:
        peak, end = entry["peak"], entry["end"]
        rang = ", ".join("–" if step is None else str(step) for step in entry["alarms"])
        cells = [
            f"{100 * entry['judge']:.1f} %",
            _number(peak["gold"]),
            f"{peak['distance']:.2f}",
            _number(end["gold"]),
            f"{end['distance']:.2f}",
            _number(end["proxy"]),
            rang,
            escape(end["said"]),
        ]
        rows.append(
            f"<tr><td>{escape(entry['arm'])}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        )
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _fits(entries: Sequence[dict[str, Any]]) -> str:
    head = "<th>form of Gao et al.</th><th>looks</th><th>α</th><th>β</th><th>R²</th><th>residual</th><th>within the "
    head += "intervals</th><th>holds</th>"
    rows = []
    for entry in entries:
        for form, ranges in entry["fits"].items():
            for which, fit in ranges.items():
                own = " (its own form)" if form == entry["form"] else ""
                cells = [f"{which}, {fit['points']}", _number(fit["alpha"]), _number(fit["beta"])]
                cells += [f"{fit['r2']:.3f}", f"{fit['residual']:.3f}", f"{100 * fit['within']:.0f} %"]
                cells.append("yes" if fit["holds"] else "no")
                name = f"{escape(entry['arm'])}: {escape(form)}{own}"
                rows.append(f"<tr><td>{name}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    table = f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'
    return f"<details><summary>Where the forms hold</summary>{table}</details>"


def _number(e: dict[str, float]) -> str:
    return f"{e['mean']:.2f}<small>[{e['low']:.2f}, {e['high']:.2f}]</small>"
