"""The numbers that a reader wants first, and in one sentence what the gain of practice is."""

from html import escape

from nanoschool.report.node import Node
from nanoschool.report.reading import Run
from nanoschool.report.scores import Score, interval, passk, percent, score, worlds


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def cards(run: Run) -> str:
    """The numbers that a reader wants first; one that is not known yet has no card."""
    summary, cards = run.summary, []
    stages, gain = summary.node("stages"), summary.node("gain")

    def card(stage: str, name: str, big: str, *small: str) -> None:
        lines = "".join(f"<span>{escape(line)}</span>" for line in small if line)
        named = f'<span class="name">{escape(name)}</span>'
        cards.append(f'<div class="card {escape(stage)}">{named}<b>{escape(big)}</b>{lines}</div>')

    if change := score(gain.node("difference")):
        before, after = gain.text("from") or "before", gain.text("to") or "after"
        card(
            after, f"{after} over {before}, {gain.text('world') or ''}", f"{100 * change.mean:+.1f} points",
            f"95 % interval {interval(change)}, n = {change.n or gain.number('n') or 0:,}",
            f"{percent(gain.number('before'))} → {percent(gain.number('after'))}, greedy, held out",
        )  # fmt: skip
    gates = [(stage, gate) for stage in run.stages if (gate := stages.node(stage).node("gate"))]
    for stage, gate in gates[:1]:
        card(
            stage, "reading gate", percent(gate.number("accuracy"), 2),
            f"shuffled book {percent(gate.number('shuffled'))}, chance {percent(gate.number('chance'))}",
            f"n = {gate.number('books') or 0:,} unseen rule-books",
        )  # fmt: skip
    for stages_k in list(passk(run).values())[:1]:
        ends = {stage: ks[max(ks)] for stage, ks in stages_k.items()}
        k, last = max(max(ks) for ks in stages_k.values()), list(ends)[-1]
        path = " → ".join(percent(s.mean, 0)[:-2] for s in ends.values())
        card(
            last,
            f"pass@{k}, {next(iter(passk(run)))}",
            f"{path} %",
            " → ".join(ends),
            f"n = {ends[last].n or 0:,} problems",
        )
    rates = [
        (stage, s.format_rate)
        for stage in run.stages
        for s in _chats(run, stage)
        if s.format_rate is not None
    ]
    if rates:
        means = {
            stage: [r for at, r in rates if at == stage] for stage in dict.fromkeys(at for at, _ in rates)
        }
        path = " → ".join(percent(sum(r) / len(r), 0)[:-2] for r in means.values())
        card("sft", "answers in the chat format", f"{path} %", " → ".join(means), "mean over the worlds")
    if (bits := stages.node("pretrain").number("dev_bits_per_byte")) is not None:
        card("pretrain", "bits per byte, dev", f"{bits:.3f}", "after pretraining")
    total = run.ledger.total()
    if total.flops:
        seconds = summary.node("seconds").number("total")
        card(
            "",
            "cost",
            f"{total.flops:.2g} FLOPs".replace("e+", "e"),
            f"{total.tokens:,} tokens, {total.rollouts:,} rollouts",
            duration(seconds) if seconds else "",
        )
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ""


def _chats(run: Run, stage: str) -> list[Score]:
    return [s for found in worlds(run).values() for key, s in found.items() if key == (stage, "chat")]


def verdict(gain: Node) -> str:
    """What the gain is, in one sentence that a sceptic would accept."""
    best, beyond = gain.node("best_before"), score(gain.node("beyond"))
    what = ", ".join(filter(None, [best.text("stage"), best.text("format"), percent(best.number("mean"))]))
    base = f"the best answer that was there before ({what})"
    against = f": {100 * beyond.mean:+.1f} points {interval(beyond)}" if beyond else ""
    word = gain.text("verdict")
    if word == "elicitation":
        known = f"Practice does not beat {escape(base)}{against}"
        return f"<b>Elicitation.</b> {known}. It brings out what was there."
    if word:
        return f"<b>{escape(word.capitalize())}.</b> Compared with {escape(base)}{against}."
    return ""
