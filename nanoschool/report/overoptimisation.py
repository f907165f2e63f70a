"""The two curves of over-optimisation: the judge's score and what is meant, against the way from the start (2210.10760)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nanoschool.report.reading import Look, Run
from nanoschool.report.scores import Score, ns, score
from nanoschool.report.style import LIGHT, colour, label_ends

SHOWN = 8  # looks whose reply is shown
PANELS = {"proxy": "what pays: the judge's score", "gold": "what is meant: gold"}


class Point(NamedTuple):
    """A look: √KL from the start, the judge's score, gold where the world knows it."""

    distance: float
    proxy: Score | None
    gold: Score | None


@dataclass(frozen=True)
class Line:
    """One policy's way; `alarms` are the √KL at which score and gold had parted."""

    name: str
    hue: str
    points: Sequence[Point]
    alarms: Sequence[float] = field(default_factory=list)
    dash: str = "-"


def figure(lines: Sequence[Line]) -> Figure:
    """Both curves of every line, with 95 % intervals over problems; a red ring where the alarm rang."""
    drawn = Figure(figsize=(9.6, 3.2), layout="constrained")
    panels: list[Axes] = list(drawn.subplots(1, 2).flat)
    for axes, (what, title) in zip(panels, PANELS.items(), strict=True):
        ends: list[tuple[float, float, str, str]] = []
        for line in lines:
            measured = [(p.distance, p.proxy if what == "proxy" else p.gold) for p in line.points]
            known = [(d, s) for d, s in measured if s is not None]
            if not known:
                continue
            x, y = [d for d, _ in known], [s.mean for _, s in known]
            axes.plot(x, y, color=line.hue, linestyle=line.dash, marker="o", markersize=2.6)
            for d, s in known:
                if s.low is not None and s.high is not None:
                    axes.plot([d, d], [s.low, s.high], color=line.hue, linewidth=3, alpha=0.22)
                if d in line.alarms:
                    axes.plot([d], [s.mean], "o", markersize=8, fillstyle="none", color=LIGHT["bad"])
            ends.append((x[-1], y[-1], line.name, line.hue))
        low, high = axes.get_ylim()
        if len(lines) > 1:
            label_ends(axes, ends, 0.075 * (high - low))
        axes.set_title(title)
        axes.set_xlabel("√KL from the start (√nats a reply)")
    return drawn


def of_run(run: Run, stage: str) -> Figure | None:
    """The way of a stage that a judge pays."""
    looks = [look for look in run.looks if look.stage == stage]
    if not looks:
        return None
    rang = [distance(look) for look in looks if look.drift.node("alarm")]
    points = [
        Point(distance(look), score(look.drift.node("proxy")), score(look.drift.node("gold")))
        for look in looks
    ]
    return figure([Line(stage, colour(stage), points, rang)])


def caption(run: Run, stage: str) -> str:
    golds = [score(look.drift.node("proxy")) for look in run.looks if look.stage == stage]
    return (
        f"The policy of {stage} on dev problems, sampled as in training, against its distance from where the stage "
        f"began; bars are 95 % intervals over problems, {ns(golds)} a point, one seed. Ringed in red: the alarm rang."
    )


def words(run: Run, stage: str) -> Iterator[str]:
    """How good the judge is, whether the alarm rang, and what the policy wrote on its way."""
    judge = run.summary.node("stages")
    for trained in judge:
        if agreed := score(judge.node(trained).node("agreement")):
            interval = (
                f" [{100 * agreed.low:.1f}, {100 * agreed.high:.1f}]" if agreed.low and agreed.high else ""
            )
            yield (
                f"<p>The reward model of {escape(trained)} orders {100 * agreed.mean:.1f} %{interval} of held-out "
                f"comparisons as the judge did, n = {agreed.n or 0:,}; what it scores is what pays from here on.</p>"
            )
    looks = [look for look in run.looks if look.stage == stage]
    rang = [look for look in looks if look.drift.node("alarm")]
    if rang:
        alarm = rang[0].drift.node("alarm")
        proxy, gold = score(alarm.node("proxy")), score(alarm.node("gold"))
        if proxy and gold:
            yield (
                f'<p><b class="bad">The alarm rang at step {rang[0].step}.</b> Since step {alarm.number("since"):.0f} '
                f"the judge's score changed by {_change(proxy)} and gold by {_change(gold)}, n = {gold.n or 0:,} dev "
                "problems: from there on the policy learned the judge's mistakes. The checkpoint that goes on is the "
                "best on dev by the world's own reward.</p>"
            )
    elif looks:
        yield (
            "<p>The alarm did not ring: at no look had the judge's score risen while gold fell, beyond their "
            "intervals.</p>"
        )
    if rows := "".join(_row(look) for look in _some(looks)):
        yield (
            '<div class="scroll"><table><tr><th>step</th><th>√KL</th><th>judge</th><th>gold</th>'
            f"<th>what it wrote first</th></tr>{rows}</table></div>"
        )


def distance(look: Look) -> float:
    kl = score(look.drift.node("kl"))
    return max(0.0, kl.mean) ** 0.5 if kl else 0.0


def _change(s: Score) -> str:
    return f"{s.mean:+.2f} [{s.low or 0:.2f}, {s.high or 0:.2f}]"


def _some(looks: Sequence[Look]) -> list[Look]:
    """Evenly chosen, the first and the last among them."""
    if len(looks) <= SHOWN:
        return list(looks)
    return [looks[round(i * (len(looks) - 1) / (SHOWN - 1))] for i in range(SHOWN)]


def _row(look: Look) -> str:
    named = [score(look.drift.node(key)) for key in ("proxy", "gold")]
    numbers = "".join(f"<td>{s.mean:.2f}</td>" if s else "<td>–</td>" for s in named)
    said = escape(look.drift.node("said").text("reply") or "")
    mark = ' class="bad"' if look.drift.node("alarm") else ""
    return f"<tr><td{mark}>{look.step}</td><td>{distance(look):.2f}</td>{numbers}<td>{said}</td></tr>"
