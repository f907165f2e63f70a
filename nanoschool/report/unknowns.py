"""What it knows, and what it does where it does not: answers, makes something up, says so, or asks a tool."""

from collections.abc import Iterator
from html import escape

from nanoschool.report.node import Node
from nanoschool.report.reading import Run
from nanoschool.report.scores import Score, interval, percent, score
from nanoschool.report.tables import row, stage_name, table

GROUPS = {
    "knowledge": "",
    "kind": "",
    "level": "level ",
}  # how a world sorts its tasks, and what its report says before the sort's name; exposure has a chart (report/acts.py)
WORDS = {
    "right": "right",
    "wrong": "wrong",
    "abstain": "says it does not know",
    "look": "looks it up",
    "call": "calculates",
    "nonsense": "none of these",
}


def unknowns_table(run: Run) -> str:
    """A row for every world and group of tasks, a column for every stage: the share of each act; then the regret."""
    rows = [line for world in worlds_with_unknowns(run) for line in _rows(run, world)]
    return table(["", *map(stage_name, run.stages)], rows) if rows else ""


def bounds(run: Run) -> str:
    """How often facts were told, the error that must follow, and the first stage's: a paragraph and a table."""
    told = run.summary.node("exposure")
    for stage in run.stages[:1]:
        for world in worlds_with_unknowns(run):
            found = said(run, stage, world).node("acts_by_exposure")
            if told and any(s.mean for group in found if (s := _share(found, group, "right"))):
                return _sentence(told, found, stage, world) + _by_exposure(told, found, stage)
    return ""


def _sentence(told: Node, found: Node, stage: str, world: str) -> str:
    asked = [(int(group), _share(found, group, "wrong")) for group in found]
    total = sum(weight for weight, _ in asked)
    error = sum(weight * (s.mean if s else 0.0) for weight, s in asked) / total if total else None
    n = sum(s.n or 0 for weight, s in asked if s and weight)
    return (
        f"<p>In {escape(world)} the model of {escape(stage)} has not been taught to abstain. Over questions asked as "
        f"often as their people were told of, it errs on {percent(error)} (n = {n}). Of "
        f"{told.number('sightings') or 0:,.0f} tellings {percent(told.number('singleton_rate'), 2)} were the only one of "
        f"their fact, which is about what must be made up at least (2509.04664, theorem 3). Asked equally often, the "
        f"floor is what was never told.</p>"
    )


def _by_exposure(told: Node, found: Node, stage: str) -> str:
    rows = []
    for group in found:
        times, floor = told.node("told").number(group), told.node("floor").number(group)
        s = _share(found, group, "wrong")
        wrong = (
            f"{percent(s.mean)}<small>{interval(s)}</small><small>n = {s.n}</small>" if s else percent(0.0)
        )
        rows.append(row([group, f"{times:.1f}" if times is not None else "", wrong, percent(floor)]))
    head = [
        "weight in the text",
        "times told, expected",
        f"{stage_name(stage)} wrong",
        "least possible, always answering",
    ]
    return table(head, rows)


def _share(found: Node, group: str, act: str) -> Score | None:
    return score(found.node(group).node(act))


def worlds_with_unknowns(run: Run) -> list[str]:
    return list(
        dict.fromkeys(world for stage in run.stages for world in _exam(run, stage) if said(run, stage, world))
    )


def _exam(run: Run, stage: str) -> Node:
    return run.summary.node("stages").node(stage).node("worlds")


def said(run: Run, stage: str, world: str) -> Node:
    """What a stage did in the chat format; before it converses, in that of the text it has read, where there is one."""
    forms = _exam(run, stage).node(world)
    told = [forms.node(form) for form in forms if forms.node(form).node("acts_by_knowledge")]
    spoke = [form for form in told if form.number("format_rate")]
    return (spoke or told or [Node({}, forms.where)])[-1]


def _rows(run: Run, world: str) -> Iterator[str]:
    nodes = {stage: said(run, stage, world) for stage in run.stages}
    for by, before in GROUPS.items():
        found = {stage: node.node(f"acts_by_{by}") for stage, node in nodes.items()}
        for group in dict.fromkeys(group for node in found.values() for group in node):
            name = f"{world} · {before}{group}"
            yield row([escape(name), *(_acts(found[stage].node(group)) for stage in run.stages)])
    regrets = [_number(score(nodes[stage].node("regret"))) for stage in run.stages]
    yield row([escape(f"{world} · regret"), *regrets], "sum")


def _acts(node: Node) -> str:
    """The shares of acts, the largest first; those that occurred nowhere in the group are left out."""
    found = {act: s for act in node if (s := score(node.node(act))) is not None}
    lines = [
        f"{percent(s.mean)} {escape(WORDS.get(act, act))} <small>{interval(s)}</small>"
        for act, s in sorted(found.items(), key=lambda pair: -pair[1].mean)
        if s.mean
    ]
    n = next((s.n for s in found.values()), None)
    return "<br>".join(lines) + (f"<small>n = {n}</small>" if n else "")


def _number(s: Score | None) -> str:
    if s is None:
        return ""
    between = "" if s.low is None or s.high is None else f"<small>[{s.low:.3f}, {s.high:.3f}]</small>"
    return f"{s.mean:.3f}{between}<small>n = {s.n}</small>"
