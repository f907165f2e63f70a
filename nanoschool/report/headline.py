"""The numbers that a reader wants first, and in one sentence what the gain of practice is."""

import tomllib
from dataclasses import dataclass
from html import escape

from nanoschool.report.node import Node
from nanoschool.report.reading import Run
from nanoschool.report.scores import interval, ns, passk, percent, score, worlds

VERDICTS = {
    "beyond the base": "Practice beats the best that any earlier stage could do, in any answer format.",
    "elicitation": "Practice beats the stage before, but not the best of any earlier stage and answer format. It brings "
    "out what was there.",
    "no gain shown": "The interval of the difference to the stage before holds 0.",
    "worse": "After practice it does worse than the stage before.",
}


@dataclass(frozen=True)
class Fact:
    """One headline: the stage it belongs to ("" for the whole run), its name, its number, what must stand beside it."""

    stage: str
    name: str
    number: str
    beside: tuple[str, ...]


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def facts(run: Run) -> list[Fact]:
    """The headlines that are known so far, the most wanted first."""
    return [fact for find in (_gain, _gate, _attempts, _form, _bits, _cost) if (fact := find(run))]


def cards(run: Run) -> str:
    """The headlines as HTML."""
    found = []
    for fact in facts(run):
        lines = "".join(f"<span>{escape(line)}</span>" for line in fact.beside)
        found.append(
            f'<div class="card {escape(fact.stage)}"><span class="name">{escape(fact.name)}</span>'
            f"<b>{escape(fact.number)}</b>{lines}</div>"
        )
    return f'<div class="cards">{"".join(found)}</div>' if found else ""


def _gain(run: Run) -> Fact | None:
    gain = run.summary.node("gain")
    change, best = score(gain.node("difference")), gain.node("best_before")
    if change is None:
        return None
    before, after = gain.text("from") or "before", gain.text("to") or "after"
    lines = [
        f"{percent(gain.number('before'))} → {percent(gain.number('after'))}, greedy, held out",
        f"95 % interval {interval(change)}, n = {change.n or gain.number('n') or 0:,}",
    ]
    if best:  # the gain never stands alone: what was there before, in another format, may be as good
        source = " ".join(filter(None, [best.text("stage"), best.text("format")]))
        lines += [
            gain.text("verdict") or "not judged",
            f"best before: {percent(best.number('mean'))}, {source}",
        ]
    return Fact(
        after,
        f"{after} over {before}, {gain.text('world') or ''}",
        f"{100 * change.mean:+.1f} points",
        tuple(lines),
    )


def _gate(run: Run) -> Fact | None:
    stages = run.summary.node("stages")
    for stage in run.stages:
        if gate := stages.node(stage).node("gate"):
            shuffled, chance = percent(gate.number("shuffled")), percent(gate.number("chance"))
            measured = score(gate.node("estimates").node("accuracy"))
            beside = (
                f"shuffled book {shuffled}, chance {chance}",
                f"{f'{interval(measured, 2)}, ' if measured else ''}n = {gate.number('books') or 0:,} unseen rule-books",
            )
            return Fact(stage, f"reading gate after {stage}", percent(gate.number("accuracy"), 2), beside)
    return None


def _attempts(run: Run) -> Fact | None:
    found = passk(run)
    if not found:
        return None
    asked = run.summary.node("gain").text("world")
    world = asked if asked in found else next(iter(found))
    k = max(k for ks in found[world].values() for k in ks)
    ends = {asked: ks[k] for asked, ks in found[world].items() if k in ks}
    stage, last = list(ends.items())[-1]
    beside = (
        " → ".join(" ".join(asked) for asked in ends),
        f"{stage[0]} {interval(last)}, n = {last.n or 0:,} problems",
    )
    return Fact(stage[0], f"pass@{k}, {world}", _path([s.mean for s in ends.values()]), beside)


def _form(run: Run) -> Fact | None:
    """Over the worlds that demonstrations cover: nobody was shown how a longer task is answered."""
    taught = tomllib.loads(run.settings).get("taught", {})
    covered = [world for world in worlds(run) if taught.get(world, 0) > 0] or list(worlds(run))
    means, asked = {}, []
    for stage in run.stages:
        chats = [worlds(run)[world].get((stage, "chat")) for world in covered]
        if rates := [s.format_rate for s in chats if s is not None and s.format_rate is not None]:
            means[stage] = sum(rates) / len(rates)
            asked += chats
    if not means:
        return None
    beside = (" → ".join(means), f"mean over {', '.join(covered)}", f"{ns(asked)} problems a world")
    return Fact("sft", "answers in the chat format", _path(list(means.values())), beside)


def _bits(run: Run) -> Fact | None:
    for stage in run.stages[:1]:
        exam = run.summary.node("stages").node(stage)
        if (bits := exam.number("dev_bits_per_byte")) is not None:
            size = exam.number("dev_bytes") or run.looked_at(stage, "bytes")
            n = f"n = {size:,} bytes" if size else "n not stated"
            return Fact(stage, "bits per byte, dev", f"{bits:.3f}", (f"after {stage}", n))
    return None


def _cost(run: Run) -> Fact | None:
    total, seconds = run.ledger.total(), run.summary.node("seconds").number("total")
    if not total.flops:
        return None
    beside = [
        f"{total.tokens:,} tokens, {total.rollouts:,} rollouts",
        *([duration(seconds)] if seconds else []),
    ]
    return Fact("", "cost", f"{total.flops:.2g} FLOPs".replace("e+", "e"), tuple(beside))


def _path(shares: list[float]) -> str:
    return " → ".join(percent(share, 0)[:-2] for share in shares) + " %"


def verdict(gain: Node) -> str:
    """What the gain is, in words that a sceptic would accept."""
    word, meaning = gain.text("verdict"), VERDICTS.get(gain.text("verdict") or "", "")
    if not word:
        return ""
    best = gain.node("best_before")
    what = ", ".join(filter(None, [best.text("stage"), best.text("format"), percent(best.number("mean"))]))
    against = (
        ("difference", f"the stage before ({gain.text('from')})"),
        ("beyond", f"the best before ({what})"),
    )
    told = [
        f"{100 * s.mean:+.1f} points {interval(s)} against {escape(words)}"
        for key, words in against
        if (s := score(gain.node(key)))
    ]
    return f"<b>{escape(word.capitalize())}.</b> {meaning} By problem: {'; '.join(told)}."
