"""The tables of the page: scores by world and by kind of question, the reading gate, the ledger."""

from html import escape

from nanoschool.ledger import Cost
from nanoschool.report.reading import Run
from nanoschool.report.scores import Score, best_format, interval, nats, passk, percent, score, span, worlds

COSTS = ("tokens", "sampled", "trained", "rollouts", "bits")  # of a ledger's account, beside its FLOPs


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


def score_table(run: Run) -> str:
    """A row for every stage and answer format, a column a world: mean, interval, n, format rate."""
    scores = worlds(run)
    keys = [(stage, form) for stage in run.stages for form in _formats(scores, stage)]

    def cell(s: Score | None) -> str:
        if s is None:
            return ""
        form = "" if s.format_rate is None else f"well-formed {percent(s.format_rate)}"
        counts = " · ".join(filter(None, [f"n = {s.n:,}" if s.n else "", form]))
        return f"{percent(s.mean)}<small>{interval(s)}</small><small>{counts}</small>"

    rows = [
        row([stage_name(*_key(key)), *(cell(found.get(key)) for found in scores.values())]) for key in keys
    ]
    return table(["", *map(escape, scores)], rows) if keys else ""


def _key(key: tuple[str, str]) -> tuple[str, str]:
    return key[0], f" · {key[1]}"


def _formats(scores: dict[str, dict[tuple[str, str], Score]], stage: str) -> list[str]:
    forms = {form for found in scores.values() for at, form in found if at == stage}
    return sorted(forms, key=lambda form: (form == "chat", form))


def passk_table(run: Run) -> str:
    """A row for every world and stage, with the format that it was asked in; a column for every k."""
    found = passk(run)
    counts = sorted({k for stages in found.values() for ks in stages.values() for k in ks})

    def cell(s: Score | None) -> str:
        return f"{percent(s.mean)}<small>{interval(s)}</small><small>n = {s.n or 0:,}</small>" if s else ""

    rows = [
        row([f"{escape(world)} · {stage_name(*_key(key))}", *(cell(ks.get(k)) for k in counts)])
        for world, stages in found.items()
        for key, ks in stages.items()
    ]
    return table(["", *(f"pass@{k}" for k in counts)], rows) if rows else ""


def world_list(run: Run) -> str:
    """What each world is, in the words of its file."""
    node = run.summary.node("worlds")
    said = {world: phrase for world in node if (phrase := node.text(world))}
    items = "".join(f"<li><b>{escape(world)}</b> {escape(phrase)}</li>" for world, phrase in said.items())
    return f'<ul class="note">{items}</ul>' if items else ""


def kind_table(run: Run) -> str:
    """A row for every world and kind of question, a column a stage: accuracy in the stage's best answer format."""
    best = {
        (world, stage): found
        for world, scores in worlds(run).items()
        for stage in run.stages
        if (found := best_format(scores, stage))
    }
    kinds = dict.fromkeys(
        (world, kind) for (world, _), (_, s) in best.items() for kind in s.by.get("kind", {})
    )

    def cell(world: str, kind: str, stage: str) -> str:
        form, whole = best.get((world, stage), ("", None))
        s = whole.by.get("kind", {}).get(kind) if whole else None
        told = filter(None, [form, interval(s), f"n = {s.n}"]) if s else ()
        return f"{percent(s.mean)}<small>{escape(' · '.join(told))}</small>" if s else ""

    rows = [row([escape(f"{w} · {k}"), *(cell(w, k, stage) for stage in run.stages)]) for w, k in kinds]
    heads = [stage_name(stage, ", best format") for stage in run.stages]
    return table(["kind of question", *heads], rows) if kinds else ""


def held_out_table(run: Run) -> str:
    """A row for every stage that was measured on a file of the user's: its loss and its accuracy there."""
    found = {stage: run.summary.node("stages").node(stage).node("held_out") for stage in run.stages}
    columns = [
        name for name in ("loss", "accuracy") if any(score(node.node(name)) for node in found.values())
    ]

    def cell(stage: str, name: str) -> str:
        s = score(found[stage].node(name))
        if s is None:
            return ""
        mean, ends = (nats(s.mean), span(s)) if name == "loss" else (percent(s.mean), interval(s))
        return f"{mean}<small>{ends}</small><small>n = {s.n or 0:,}</small>"

    rows = [
        row([stage_name(stage), *(cell(stage, name) for name in columns)])
        for stage in run.stages
        if found[stage]
    ]
    return table(["", *columns], rows) if columns else ""


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
            found = {
                key: score(gate.node("estimates").node(key)) for key in ("accuracy", "shuffled", "chance")
            }
            shares = [
                percent(gate.number(key), 2) + (f"<small>{interval(s, 2)}</small>" if s else "")
                for key, s in found.items()
            ]
            counts = [f"{gate.number(key) or 0:,}" for key in ("books", "tokens")]
            rows.append(row([stage_name(stage), *shares, *counts, verdict]))
    head = ["", "token accuracy", "with the book shuffled", "chance", "books (n)", "answer tokens", "verdict"]
    return table(head, rows) if rows else ""


def ledger_table(run: Run) -> str:
    """Every account, a sum for every stage and one for all; the share is of all FLOPs. What nobody spent has no column."""
    accounts, total = run.ledger.accounts, run.ledger.total()
    heads = list(dict.fromkeys(name.split("/")[0] for name in accounts))
    heads.sort(key=lambda name: run.stages.index(name) if name in run.stages else len(run.stages))

    columns = [name for name in COSTS if any(getattr(cost, name) for cost in accounts.values())]

    def line(name: str, cost: Cost, kind: str = "") -> str:
        share = cost.flops / total.flops if total.flops else 0.0
        counts = [f"{getattr(cost, column):,.0f}" for column in columns]
        cells = [name, f"{cost.flops:.3g}".replace("e+", "e"), *counts]
        bar = f'<td class="bar" style="--share:{100 * share:.1f}%">{percent(share)}</td>'
        return row(cells, kind).replace("</tr>", f"{bar}</tr>")

    rows = []
    for head in heads:
        inside = [name for name in sorted(accounts) if name == head or name.startswith(head + "/")]
        rows += [line(escape(name), accounts[name]) for name in inside]
        if len(inside) > 1:
            rows.append(line(stage_name(head), run.ledger.total(head), "sum"))
    rows.append(line("all", total, "sum"))
    return table(["account", "FLOPs", *columns, "share of FLOPs"], rows) if accounts else ""
