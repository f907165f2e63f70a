"""The page: sections in the order a reader asks, charts and tables set into one HTML file that needs nothing else."""

from collections.abc import Iterator
from html import escape

import matplotlib
from matplotlib.figure import Figure

from nanoschool.report import (
    accuracy,
    acts,
    headline,
    learning,
    overoptimisation,
    reach,
    tables,
    transcripts,
    unknowns,
)
from nanoschool.report.reading import Run
from nanoschool.report.scores import NUMBERS, ns, passk, score, widest, worlds
from nanoschool.report.sheet import SHEET
from nanoschool.report.style import RC, svg, theme


def render(run: Run) -> str:
    """The whole page. Same run folder, same page, byte for byte."""
    with matplotlib.rc_context(RC):
        body = "\n".join(_body(run))
    name = escape(_name(run))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name} · nanoschool report</title>\n<style>{theme()}{SHEET}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _name(run: Run) -> str:
    return run.summary.text("name") or run.folder.resolve().name


def _body(run: Run) -> Iterator[str]:
    yield _head(run)
    yield headline.cards(run)
    yield from _section("What it can do", _worlds(run))
    yield from _section("What practice changed", _gain(run))
    yield from _section("When the reward is learned", _judged(run))
    yield from _section("On the file that it learned from", _held_out(run))
    yield from _section("How it learned", _learning(run))
    yield from _section("Does it read?", _gate(run))
    yield from _section("Does it know what it knows?", _unknowns(run))
    yield from _section("Against compressors", _compression(run))
    yield from _section("In its own words", _transcripts(run))
    yield from _section("What it cost", _ledger(run))
    if run.settings:
        blocks = "".join(f"<span>{escape(block)}\n</span>" for block in run.settings.strip().split("\n\n"))
        yield f'<h2>Settings</h2>\n<pre class="settings">{blocks}</pre>'
    version = run.summary.text("version")
    yield f"<footer>Made by nanoschool{f' {escape(version)}' if version else ''} from the files of this run.</footer>"


def _section(title: str, parts: Iterator[str]) -> Iterator[str]:
    content = [part for part in parts if part]
    if content:
        yield f"<h2>{title}</h2>"
        yield from content


def _figure(figure: Figure | None, caption: str) -> str:
    if figure is None:
        return ""
    drawn = svg(figure, caption)
    width = "wide" if figure.get_figwidth() > 5 else "half"
    return f'<figure class="{width}">{drawn}<figcaption>{escape(caption)}</figcaption></figure>'


def _head(run: Run) -> str:
    summary = run.summary
    facts = []
    if parameters := summary.number("parameters"):
        facts.append(f"{parameters / 1e6:.2f} M parameters")
    for key, words in (("vocab", "vocabulary {:,}"), ("context", "context {:,}"), ("seed", "seed {}")):
        if (value := summary.number(key)) is not None:
            facts.append(words.format(value))
    if device := summary.text("device"):
        threads = summary.number("threads")
        facts.append(device + (f", {threads} threads" if threads else ""))
    if torch := summary.text("torch"):
        facts.append(f"torch {torch}")
    times = summary.node("seconds")
    spent = [f"{key} {headline.duration(value)}" for key in times if (value := times.number(key)) is not None]
    banner = ""
    if run.missing:
        banner = (
            f'<div class="banner"><b>Not finished.</b> Not there yet: {escape("; ".join(run.missing))}.</div>'
        )
    return (
        f'<p class="kicker">nanoschool · report of a run</p><h1>{escape(_name(run))}</h1>'
        f'<p class="lede">{escape(" · ".join(facts))}<br>{escape(" · ".join(spent))}</p>{banner}'
    )


def _worlds(run: Run) -> Iterator[str]:
    scores = [s for found in worlds(run).values() for s in found.values()]
    yield _figure(
        accuracy.accuracy(run),
        f"Accuracy in percent on held-out problems of every world, after every stage. Filled: asked in chat. Hollow: the "
        f"same problems as plain text, in the formats that pretraining used. Bars are 95 % intervals over problems; "
        f"{ns(scores)} a dot.",
    )
    yield tables.score_table(run)
    yield tables.world_list(run)
    yield tables.kind_table(run)


def _gain(run: Run) -> Iterator[str]:
    gain = run.summary.node("gain")
    differences = [score(gain.node("difference")), score(gain.node("beyond"))]
    if text := headline.verdict(gain):
        yield f"<p>{text}</p>"
    yield _figure(
        accuracy.gain(run),
        f"Greedy accuracy on held-out problems of {gain.text('world') or 'a world'} before and after, and the "
        f"difference problem by problem with its 95 % bootstrap interval; {ns(differences)} pairs. Hollow: the best "
        f"answer format before.",
    )
    attempts = [s for stages in passk(run).values() for ks in stages.values() for s in ks.values()]
    pair = _figure(
        reach.pass_at_k(run),
        f"Chance that at least one of k sampled attempts is right (unbiased, 95 % intervals); {ns(attempts)} problems. "
        f"Each stage is asked in the format named beside it; dashed: a format of the text.",
    )
    for what, words in NUMBERS.items():
        parts = [s for found in worlds(run).values() for e in found.values() for s in e.along(what).values()]
        pair += _figure(
            reach.along(run, what),
            f"Greedy accuracy by {words}; {ns(parts)} a point. Dashed: the best plain format after the first stage.",
        )
    yield f'<div class="pair">{pair}</div>' if pair else ""
    yield tables.passk_table(run)
    for stage in run.rewarded:
        count = len(run.curve(stage, "reward")[0])
        yield _figure(
            learning.practice(run, stage),
            f"Practice ({stage}), n = {count} steps of one seed. Faint: each step; line: running mean of "
            f"{learning.window(count)} steps; black: greedy score on dev problems, {_n(learning.looked(run, stage))} a "
            f"look. A group whose attempts all earn the same reward has no variance and teaches nothing.",
        )


def _judged(run: Run) -> Iterator[str]:
    for stage in dict.fromkeys(look.stage for look in run.looks):
        if text := headline.verdict(run.summary.node("gains").node(stage)):
            yield f"<p>{text}</p>"
        yield from overoptimisation.words(run, stage)
        yield _figure(overoptimisation.of_run(run, stage), overoptimisation.caption(run, stage))


def _held_out(run: Run) -> Iterator[str]:
    if found := tables.held_out_table(run):
        yield (
            "<p>Rows with prompts that no stage learned from. Loss is what the method minimises; accuracy is the share of "
            "rows whose better reply it holds to be better. 95 % intervals over rows.</p>"
        )
        yield found


def _learning(run: Run) -> Iterator[str]:
    steps = {stage: len(run.curve(stage, "loss")[0]) for stage in run.stages if stage not in run.rewarded}
    counts = ", ".join(f"{count} of {stage}" for stage, count in steps.items())
    yield _figure(
        learning.loss(run),
        f"Loss on learned tokens; n = {counts} steps, one seed. Faint: each step; black: dev, {_looked(run, 'tokens')}.",
    )
    yield _figure(
        learning.bits_per_byte(run),
        f"Bits per byte of the dev text that each stage looks at, {_looked(run, 'bytes')}, one seed; stages drawn equally "
        f"wide.",
    )


def _looked(run: Run, what: str) -> str:
    """How much of dev every stage looked at, for a caption."""
    counts = [n for stage in run.stages if (n := run.looked_at(stage, what))]
    return f"{_n(max(counts, default=None))} {what}" if counts else "n not stated"


def _n(count: int | None) -> str:
    return f"n = {count:,}" if count else "n not stated"


def _gate(run: Run) -> Iterator[str]:
    if found := tables.gate_table(run):
        yield (
            "<p>Rule-books that no training text held stand in the prompt; the model looks answers up in them. If it reads, "
            "it is right with the book and at chance when the book is shuffled.</p>"
        )
        yield found


def _unknowns(run: Run) -> Iterator[str]:
    if found := unknowns.unknowns_table(run):
        yield (
            "<p>What it does with questions that it can answer and with those that it cannot. Known is what the first "
            "stage got right more often than not, asked four times without help. Regret is the reward lost against "
            "whoever knows as much and always does what pays most.</p>"
        )
        yield found
        yield _figure(
            acts.by_exposure(run),
            f"What it does with questions about people, by the weight that they have in the text (0: never told of; 512: "
            f"told of 512 times as often as 1); {ns(acts.shares(run))} a bar, and the 95 % interval of a share is at most "
            f"{widest(acts.shares(run))} wide.",
        )
        yield unknowns.bounds(run)


def _compression(run: Run) -> Iterator[str]:
    size = run.summary.node("compression").number("bytes")
    yield _figure(
        learning.compression(run),
        f"Bits per byte on the same held-out text, n = {size or 0:,} bytes; less is better. The compressors adapt to this "
        f"text only, the model has read other text before.",
    )


def _transcripts(run: Run) -> Iterator[str]:
    if talks := transcripts.transcripts(run):
        swatches = "".join(
            f'<i style="--u:{0.85 * (1 - p):.2f}"></i>' for p in (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)
        )
        yield (
            '<p class="note">The first test problems of each world and what every stage replied, greedily, in the answer '
            "format it does best in. Each token is coloured by its probability, sure "
            f'<span class="scale">{swatches}</span> unsure. Point at one for the number.</p>'
        )
        yield talks


def _ledger(run: Run) -> Iterator[str]:
    if found := tables.ledger_table(run):
        yield "<p>FLOPs are counted: matrix products and attention over the live causal length, evaluation included.</p>"
        yield found
