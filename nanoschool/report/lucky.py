"""lucky: one attempt of an x-ray, token by token: what each was truly worth, and what each method credits it with."""

from collections.abc import Iterator, Sequence
from html import escape

from nanoschool.report.node import Node
from nanoschool.report.tables import row, table

LOUD = 2.0  # root mean squares at which a token's colour is full
SHEET_OF_TOKENS = """
.x { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; overflow-x: auto; align-items: baseline; }
.x pre { white-space: pre; overflow-wrap: normal; margin: 0; font-size: 13px; line-height: 1.6; }
.x .name { font-size: 13px; white-space: nowrap; } .x .true { font-weight: 650; }
.up, .down { cursor: help; }
.up { background: color-mix(in srgb, var(--rl) calc(100% * var(--a)), transparent); }
.down { background: color-mix(in srgb, var(--bad) calc(100% * var(--a)), transparent); }
.first { border-left: 1.5px solid var(--muted); }
"""


def lucky(seen: Node, names: Sequence[str]) -> Iterator[str]:
    tokens, sampled = seen.list("tokens", str), seen.list("sampled", bool)
    steps = [Node(step, seen.where) for step in seen.list("steps", dict)]
    starts = {int(step.number("first") or 0) for step in steps}
    yield f'<p class="note">Asked <b>{escape(seen.text("asked") or "")}</b>, rewarded {seen.number("reward"):g}.</p>'
    yield table(["step", "value before", "value after", "advantage", "under perfect play"], [
        row([
            f"<code>{escape(''.join(tokens[int(s.number('first') or 0) : int(s.number('past') or 0)]))}</code>",
            _value(s.node("before")), _value(s.node("after")),
            f"{s.number('advantage') or 0:+.3f} ± {1.96 * (s.number('error') or 0):.3f}",
            "" if s.number("perfect") is None else f"{s.number('perfect'):+.3f}",
        ])
        for s in steps
    ])  # fmt: skip
    rows = {}
    for key, words in (("advantage", "true, this policy"), ("perfect", "true, perfect play")):
        worth = [0.0] * len(tokens)
        for s in steps:
            first, past = int(s.number("first") or 0), int(s.number("past") or 0)
            worth[first:past] = [s.number(key) or 0.0] * (past - first)
        largest = max(map(abs, worth), default=0.0) or 1.0
        rows[words] = [LOUD * w / largest for w in worth], worth
    for name in names:
        credit = [float(c) for c in seen.node("credit").list(name, (int, float))]
        rows[name] = credit, credit
    yield '<div class="x">'
    for name, (colours, numbers) in rows.items():
        kind = "name true" if name.startswith("true") else "name"
        said = "".join(
            _token(text, colour, number, i in starts) if mine else f'<span class="mark">{escape(text)}</span>'
            for i, (text, colour, number, mine) in enumerate(
                zip(tokens, colours, numbers, sampled, strict=True)
            )
        )
        yield f'<span class="{kind}">{escape(name)}</span><pre>{said}</pre>'
    yield "</div>"
    yield (
        '<p class="note">Green is pushed up, red down, a bar begins a step. The two truths are coloured by advantage; a '
        "method by its credit in units of its own root mean square over all attempts. Point at a token for the number.</p>"
    )


def _token(text: str, colour: float, number: float, first: bool) -> str:
    kind = ("up" if colour > 0 else "down") + (" first" if first else "")
    shown = escape(text).replace("\n", "↵")
    return f'<span class="{kind}" style="--a:{min(1.0, abs(colour) / LOUD):.2f}" title="{number:+.3f}">{shown}</span>'


def _value(value: Node) -> str:
    n = value.number("n") or 0
    beside = f"± {1.96 * (value.number('error') or 0):.3f}, n = {n:g}" if n else "the reward"
    return f"{value.number('mean') or 0:.3f}<small>{beside}</small>"
