"""The page of a comparison: compare.json in, one self-contained page out, and the same in a few lines for the terminal."""

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from nanoschool.report import contests, replaced
from nanoschool.report.compared_text import markdown
from nanoschool.report.node import read_object
from nanoschool.report.sheet import SHEET
from nanoschool.report.style import RC, svg, theme
from nanoschool.report.tables import row, table
from nanoschool.types import UserError

OUTCOME, PAGE, TEXT = "compare.json", "compare.html", "compare.md"
UNITS = ("flops", "rollouts", "tokens", "bits")

Told = Mapping[str, Any]


def write(folder: Path) -> Path:
    """Write `folder`/compare.html and .md, and return the page's path.

    Raises UserError where there is no whole compare.json, or no room.
    """
    missing: list[str] = []
    told = read_object(folder / OUTCOME, missing).data
    if missing:
        raise UserError(f"{folder / OUTCOME}: is not there yet; run the comparison to its end")
    with matplotlib.rc_context(RC):
        body = "\n".join(_body(told))
    name = escape(_name(told))
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name} · nanoschool comparison</title>\n<style>{theme()}{SHEET}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )
    replaced(folder / PAGE, page)
    replaced(folder / TEXT, markdown(told))
    return folder / PAGE


def lines(told: Told) -> list[str]:
    """The verdict, and every arm's score, the best first."""
    said = [told["verdict"]["words"]]
    for name, arm in _ranked(told):
        lr = f", lr {arm['lr']:g}" if arm.get("lr") else ""
        said.append(f"{name}: test {score(arm['test'])} ({arm['kind']}{lr})")
    said += [f"without {name}: {reason}" for name, reason in told["absent"].items()]
    return said


def _name(told: Told) -> str:
    plan = told["comparison"]
    return f"{plan['env']} from {plan['start']}"


def _ranked(told: Told) -> list[tuple[str, Told]]:
    return sorted(told["arms"].items(), key=lambda item: -item[1]["test"]["mean"])


def _body(told: Told) -> Iterator[str]:
    plan, verdict = told["comparison"], told["verdict"]
    each = next(iter(told["arms"].values()))["test"]
    n = f"n = {each['seeds']} seeds, {each['problems']} problems"
    yield (
        f'<p class="kicker">nanoschool · methods at equal cost</p><h1>{escape(_name(told))}</h1>'
        f'<p class="lede">{escape(plan["budget"])} for each arm and seed · {plan["seeds"]} seeds · {plan["problems"]} test '
        f"problems, read once · checkpoint chosen on {plan['dev']} dev problems</p>"
        f'<div class="banner"><b>{escape(verdict["words"])}.</b></div>'
    )
    yield "<h2>What each arm can do</h2>"
    yield _figure(
        contests.forest(told),
        f"Greedy reward on the test, mean and 95 % interval over training seeds and problems (hierarchical bootstrap, "
        f"Student's t); {n}. Hollow: controls, and the start without training. vote@k and likeliest@k are the start with k "
        f"attempts at each test problem, as many as an arm's training would have paid for.",
    )
    yield _arms(told)
    yield "<h2>Along the way</h2>"
    yield _figure(
        contests.curves(told),
        f"Greedy reward on dev at every look ({plan['dev']} problems), mean of {plan['seeds']} seeds; faint: each seed. "
        f"Only practice counts here; learning rates and evaluation are billed below. Grey: controls.",
    )
    yield "<h2>Sampled answers, and the distance from the start</h2>"
    yield '<div class="pair">'
    yield _figure(
        contests.pass_at_k(told),
        f"pass@k on the test at temperature 1, unbiased, {plan['seeds']} seeds × {plan['pass_problems']} problems × "
        f"{plan['attempts']} attempts. Black: the start.",
    )
    yield _figure(
        contests.distances(told),
        f"Gain on the test over the start against KL(arm ‖ start) on what the arm says, nats a sequence: the mean of "
        f"{plan['seeds']} seeds, and a line from the least to the most of them; {n}.",
    )
    yield "</div>"
    yield from _elsewhere(told)
    yield "<h2>Differences</h2>"
    yield (
        f"<p>Paired by seed and problem, {n}. p is Holm's, over the family of {verdict['family']} pairs that have a method "
        f"in them; bold where it is below {verdict['alpha']}.</p>"
    )
    yield _pairs(told)
    yield "<h2>What it cost</h2>"
    yield _bill(told)
    yield "<footer>Made by nanoschool from compare.json.</footer>"


def _figure(figure: Figure, caption: str) -> str:
    width = "wide" if figure.get_figwidth() > 5 else "half"
    return (
        f'<figure class="{width}">{svg(figure, caption)}<figcaption>{escape(caption)}</figcaption></figure>'
    )


def score(told: Told, digits: int = 3) -> str:
    n = f"n = {told['seeds']} × {told['problems']}"
    return f"{told['mean']:.{digits}f} [{told['low']:.{digits}f}, {told['high']:.{digits}f}] ({n})"


def _cell(told: Told, sign: bool = False) -> str:
    mean = f"{told['mean']:+.3f}" if sign else f"{told['mean']:.3f}"
    return f"{mean}<small>[{told['low']:.3f}, {told['high']:.3f}]</small>"


def _between(told: Told) -> str:
    return f"{told['mean']:.3f}<small>{told['least']:.3f} to {told['most']:.3f}</small>"


def _arms(told: Told) -> str:
    rows = []
    for name, arm in _ranked(told):
        tried = "".join(
            f"<small>{one['lr']:g}: {'no number' if one['diverged'] else format(one['dev'], '.3f')}</small>"
            for one in arm.get("trials", ())
        )
        far = arm.get("distance")
        rows.append(
            row(
                [
                    f"<b>{escape(name)}</b><small>{escape(arm['about'])}</small>",
                    _cell(arm["test"]),
                    f"{arm['lr']:g}{tried}" if arm.get("lr") else "",
                    *(_amount(arm.get("cost", {}).get(unit)) for unit in UNITS[:2]),
                    _between(far["token"]) if far else "",
                    _between(far["sequence"]) if far else "",
                ]
            )
        )
    head = [
        "arm",
        "test",
        "learning rate (dev of each tried)",
        "FLOPs a seed",
        "rollouts a seed",
        "KL a token (over seeds)",
        "KL a sequence (over seeds)",
    ]
    absent = "".join(
        f'<p class="note">Without {escape(name)}: {escape(reason)}.</p>'
        for name, reason in told["absent"].items()
    )
    return table(head, rows) + absent


def _elsewhere(told: Told) -> Iterator[str]:
    arms = {name: arm["elsewhere"] for name, arm in told["arms"].items() if arm.get("elsewhere")}
    worlds = list(dict.fromkeys(world for found in arms.values() for world in found))
    if not worlds:
        return
    one = next(iter(arms.values()))[worlds[0]]["difference"]
    yield "<h2>What was forgotten elsewhere</h2>"
    yield (
        f"<p>Change of the greedy reward in the start's other worlds; n = {one['seeds']} seeds × {one['problems']} problems "
        f"each, asked in chat; of a start that has only read, in the way that it answers best.</p>"
    )
    before = next(iter(arms.values()))
    rows = [row(["start", *(_cell(before[world]["before"]) for world in worlds)])]
    rows += [
        row([escape(name), *(_cell(found[world]["difference"], sign=True) for world in worlds)])
        for name, found in arms.items()
    ]
    yield table(["", *map(escape, worlds)], rows)


def _pairs(told: Told) -> str:
    leader = told["verdict"]["leader"]
    ordered = sorted(told["pairs"], key=lambda pair: leader not in (pair["before"], pair["after"]))
    rows = []
    for pair in ordered:
        p = f"{pair['p_holm']:.3g}"
        rows.append(
            row(
                [
                    f"{escape(pair['after'])} − {escape(pair['before'])}",
                    _cell(pair["difference"], sign=True),
                    f"<b>{p}</b>" if pair["decided"] else p,
                ]
            )
        )
    return table(["", "difference", "p (Holm)"], rows)


def _bill(told: Told) -> str:
    names = {
        "arm": "arms",
        "trial": "learning rates",
        "sampling": "more sampling",
        "evaluation": "evaluation",
    }
    bill = told["bill"]
    total = sum(bill[name]["flops"] for name in names if name in bill) or 1.0
    rows = []
    for name, words in names.items():
        if name in bill:
            share = 100 * bill[name]["flops"] / total
            bar = f'<td class="bar" style="--share:{share:.1f}%">{share:.0f} %</td>'
            cells = [words, *(_amount(bill[name][unit]) for unit in UNITS)]
            rows.append(row(cells).replace("</tr>", f"{bar}</tr>"))
    spent = " · ".join(
        f"{names.get(kind, kind)} {seconds:,.0f} s" for kind, seconds in bill["seconds"].items()
    )
    head = ["", "FLOPs", "rollouts", "tokens", "bits", "share of FLOPs"]
    return table(head, rows) + f'<p class="note">Seconds of all processes together: {escape(spent)}.</p>'


def _amount(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g}".replace("e+", "e") if value >= 1e6 else f"{value:,.0f}"
