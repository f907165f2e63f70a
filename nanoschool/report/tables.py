"""The parts of the page that are words and tables: headline cards, scores, gate, transcripts, ledger, settings."""

from html import escape

from nanoschool.ledger import Cost
from nanoschool.report.node import Node
from nanoschool.report.reading import Run
from nanoschool.report.scores import Score, interval, passk, percent, score, worlds


def table(head: list[str], rows: list[str]) -> str:
    """Cells of `head` are HTML; each row is a whole <tr>."""
    return (
        '<div class="scroll"><table><thead><tr>'
        + "".join(f"<th>{cell}</th>" for cell in head)
        + f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def row(cells: list[str], kind: str = "") -> str:
    return f'<tr class="{kind}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def stage_name(stage: str, rest: str = "") -> str:
    return f'<span class="stage {escape(stage)}">{escape(stage + rest)}</span>'


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
        path = " → ".join(percent(sum(r) / len(r), 1)[:-2] for r in means.values())
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


def score_table(run: Run) -> str:
    """A row for every stage and answer format, a column a world: mean, interval, n, format rate."""
    scores = worlds(run)
    keys = [(stage, form) for stage in run.stages for form in _formats(scores, stage)]

    def cell(s: Score | None) -> str:
        if s is None:
            return ""
        notes = [
            interval(s),
            f"n = {s.n:,}" if s.n else "",
            "" if s.format_rate is None else f"form {percent(s.format_rate)}",
        ]
        return f"{percent(s.mean)}<small>{' · '.join(filter(None, notes))}</small>"

    rows = [
        row([stage_name(*_key(key)), *(cell(found.get(key)) for found in scores.values())]) for key in keys
    ]
    return table(["", *map(escape, scores)], rows) if keys else ""


def _key(key: tuple[str, str]) -> tuple[str, str]:
    return key[0], f" · {key[1]}"


def _formats(scores: dict[str, dict[tuple[str, str], Score]], stage: str) -> list[str]:
    forms = {form for found in scores.values() for at, form in found if at == stage}
    return sorted(forms, key=lambda form: (form == "chat", form))


def gate_table(run: Run) -> str:
    rows = []
    for stage in run.stages:
        if gate := run.summary.node("stages").node(stage).node("gate"):
            passed = gate.flag("passed")
            verdict = (
                "–"
                if passed is None
                else '<span class="good">passed</span>'
                if passed
                else '<span class="bad">failed</span>'
            )
            shares = [percent(gate.number(key), 2) for key in ("accuracy", "shuffled", "chance")]
            counts = [f"{gate.number(key) or 0:,}" for key in ("books", "tokens")]
            rows.append(row([stage_name(stage), *shares, *counts, verdict]))
    head = ["", "token accuracy", "with the book shuffled", "chance", "books (n)", "answer tokens", "verdict"]
    return table(head, rows) if rows else ""


def ledger_table(run: Run) -> str:
    """Every account, a sum for every stage and one for all; the share is of all FLOPs."""
    accounts, total = run.ledger.accounts, run.ledger.total()
    heads = list(dict.fromkeys(name.split("/")[0] for name in accounts))
    heads.sort(key=lambda name: run.stages.index(name) if name in run.stages else len(run.stages))

    def line(name: str, cost: Cost, kind: str = "") -> str:
        share = cost.flops / total.flops if total.flops else 0.0
        counts = [f"{value:,}" for value in (cost.tokens, cost.sampled, cost.trained, cost.rollouts)]
        cells = [name, f"{cost.flops:.3g}".replace("e+", "e"), *counts, f"{cost.bits:,.0f}"]
        bar = f'<td class="bar" style="--share:{100 * share:.1f}%">{percent(share)}</td>'
        return row(cells, kind).replace("</tr>", f"{bar}</tr>")

    rows = []
    for head in heads:
        inside = [name for name in sorted(accounts) if name == head or name.startswith(head + "/")]
        rows += [line(escape(name), accounts[name]) for name in inside]
        if len(inside) > 1:
            rows.append(line(stage_name(head), run.ledger.total(head), "sum"))
    rows.append(line("all", total, "sum"))
    names = ["account", "FLOPs", "tokens", "sampled", "trained", "rollouts", "bits", "share of FLOPs"]
    return table(names, rows) if accounts else ""


def verdict(gain: Node) -> str:
    """What the gain is, in one sentence that a sceptic would accept."""
    best, beyond = gain.node("best_before"), score(gain.node("beyond"))
    what = ", ".join(filter(None, [best.text("stage"), best.text("format"), percent(best.number("mean"))]))
    base = f"the best answer that was there before ({what})"
    against = f": {100 * beyond.mean:+.1f} points {interval(beyond)}" if beyond else ""
    if gain.text("verdict") == "elicitation":
        known = f"Practice does not beat {escape(base)}{against}"
        return f"<b>Elicitation.</b> {known}. It brings out what was there."
    if gain.text("verdict"):
        return f"<b>{escape(gain.text('verdict').capitalize())}.</b> Compared with {escape(base)}{against}."
    return ""
