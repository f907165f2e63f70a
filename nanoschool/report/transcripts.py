"""Sample transcripts: what was asked and what was said, every token coloured by its probability."""

from html import escape

from nanoschool.report.reading import Run, Sample
from nanoschool.report.tables import stage_name


def transcripts(run: Run, most: int = 8) -> str:
    """Of every stage and world the last sample; of the last stage also the first, to see what changed."""
    chosen: dict[tuple[str, str, str], Sample] = {}
    for sample in run.samples:
        if run.stages and sample.stage == run.stages[-1]:
            chosen.setdefault((sample.stage, sample.world, "first"), sample)
        chosen[sample.stage, sample.world, "last"] = sample
    seen = dict.fromkeys(id(s) for s in chosen.values())
    picked = [s for s in run.samples if id(s) in seen]
    return "".join(_talk(s) for s in picked[-most:])


def _talk(sample: Sample) -> str:
    tokens = []
    for text, p in zip(sample.tokens, sample.probabilities, strict=True):
        shown = escape(text).replace("\n", '<span class="mark">↵</span>\n')
        if text.startswith("<|"):
            shown = f'<span class="mark">{shown}</span>'
        tokens.append(
            f'<span class="token" style="--u:{0.85 * (1 - p):.2f}" title="{escape(repr(text))}: {p:.4f}">{shown}</span>'
        )
    reward = "" if sample.reward is None else f", reward {sample.reward:g}"
    return (
        f'<div class="talk {escape(sample.stage)}"><div class="note">{stage_name(sample.stage)}, step {sample.step:,}, '
        f"{escape(sample.world)}{reward}</div><pre>{escape(sample.prompt)}</pre><pre>{''.join(tokens)}</pre></div>"
    )
