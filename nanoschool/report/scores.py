"""The scores in summary.json: one estimate for each stage, world and answer format, with what stands beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nanoschool.report.node import Node
from nanoschool.report.reading import Run

NUMBERS = {"length": "length of the problem (steps)", "exposure": "weight in the text (0: never told of)"}


@dataclass(frozen=True)
class Score:
    """A mean with its 95 % interval; what the summary does not state is None."""

    mean: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    format_rate: float | None = None  # share of replies in the asked format
    by: dict[str, dict[str, "Score"]] = field(
        default_factory=dict
    )  # {"length": {"3": …}}: what the world counts

    def along(self, what: str) -> dict[int, "Score"]:
        """The scores by a number that the world counts, e.g. "length", ascending."""
        return dict(sorted((int(key), s) for key, s in self.by.get(what, {}).items()))


def score(node: Node) -> Score | None:
    """The score written at `node`; None where there is none. Raises UserError where it has parts but no mean."""
    if not node:
        return None
    mean, n = node.number("mean"), node.number("n")
    if mean is None:
        raise node.error("a score needs a mean")
    by = {}
    for what in (key.removeprefix("by_") for key in node if key.startswith("by_")):
        part = node.node(f"by_{what}")
        if what in NUMBERS and (wrong := [key for key in part if not key.isdecimal()]):
            raise part.error(f"{what} is a whole number", wrong[0])
        by[what] = {key: s for key in part if (s := score(part.node(key)))}
    return Score(
        mean,
        node.number("low"),
        node.number("high"),
        None if n is None else int(n),
        node.number("format_rate"),
        by,
    )


def worlds(run: Run) -> dict[str, dict[tuple[str, str], Score]]:
    """{world: {(stage, format): score}}, stages in the order of the school and "chat" last among the formats."""
    found: dict[str, dict[tuple[str, str], Score]] = {}
    for stage in run.stages:
        evaluated = run.summary.node("stages").node(stage).node("worlds")
        for world in evaluated:
            for form in sorted(evaluated.node(world), key=lambda name: (name == "chat", name)):
                if measured := score(evaluated.node(world).node(form)):
                    found.setdefault(world, {})[stage, form] = measured
    return found


def passk(run: Run) -> dict[str, dict[tuple[str, str], dict[int, Score]]]:
    """{world: {(stage, format it was asked in): {k: pass@k}}}; stages may have been asked in different formats."""
    found: dict[str, dict[tuple[str, str], dict[int, Score]]] = {}
    for stage in run.stages:
        exam = run.summary.node("stages").node(stage)
        evaluated = exam.node("passk")
        for world in evaluated:
            asked = stage, exam.node("passk_format").text(world) or "format not stated"
            for key in evaluated.node(world):
                name, _, k = key.partition("@")
                if name != "pass" or not k.isdecimal():
                    raise evaluated.node(world).error("expected pass@ and a whole number", key)
                if measured := score(evaluated.node(world).node(key)):
                    found.setdefault(world, {}).setdefault(asked, {})[int(k)] = measured
    return {w: {s: dict(sorted(ks.items())) for s, ks in stages.items()} for w, stages in found.items()}


def best_format(scores: dict[tuple[str, str], Score], stage: str) -> tuple[str, Score] | None:
    """The answer format in which a stage does best, and its score there."""
    own = [(form, s) for (at, form), s in scores.items() if at == stage]
    return max(own, key=lambda pair: pair[1].mean, default=None)


def ns(scores: Sequence[Score | None]) -> str:
    """ "n = 400", "n = 100 to 400" or "n not stated", for a caption."""
    known = sorted({s.n for s in scores if s is not None and s.n is not None})
    if not known:
        return "n not stated"
    return f"n = {known[0]:,}" if len(known) == 1 else f"n = {known[0]:,} to {known[-1]:,}"


def widest(scores: Sequence[Score]) -> str:
    """The widest interval among scores, "28 points", for a caption: what a chart that draws none leaves open."""
    widths = [s.high - s.low for s in scores if s.high is not None and s.low is not None]
    return f"{100 * max(widths):.0f} points" if widths else "an interval that is not stated"


def percent(value: float | None, digits: int = 1) -> str:
    """A share as "93.5 %"; "–" where there is none. Never rounds to 100 % or 0 % what is not."""
    if value is None:
        return "–"
    text = f"{100 * value:.{digits}f}"
    while digits < 4 and float(text) in (0.0, 100.0) and value not in (0.0, 1.0):
        digits += 1
        text = f"{100 * value:.{digits}f}"
    return f"{text} %"


def interval(s: Score, digits: int = 1) -> str:
    """ "[91.2, 95.4]" in percent; empty where the summary states none."""
    if s.low is None or s.high is None:
        return ""
    return f"[{100 * s.low:.{digits}f}, {100 * s.high:.{digits}f}]"


def nats(value: float) -> str:
    """A loss as "2.0341"."""
    return f"{value:.4f}"


def span(s: Score) -> str:
    """ "[2.0112, 2.0570]" of a loss; empty where the summary states none."""
    return "" if s.low is None or s.high is None else f"[{nats(s.low)}, {nats(s.high)}]"
