"""Transcripts: what every stage replied to the same test problems, every token coloured by its probability."""

import tomllib
from html import escape

from nanoschool.report.reading import Run, Sample
from nanoschool.report.scores import best_format, worlds
from nanoschool.report.tables import stage_name

PRACTISED, OTHER = 2, 1  # problems shown of a world


def transcripts(run: Run) -> str:
    """World by world, the practised ones first and open: the first problems and each stage's reply to them."""
    tables = tomllib.loads(run.settings).values()
    practised = dict.fromkeys(t["env"] for t in tables if isinstance(t, dict) and t.get("env"))
    seen = dict.fromkeys(sample.world for sample in run.samples)
    return "".join(
        _world(run, world, PRACTISED if world in practised else OTHER, world in practised)
        for world in [w for w in practised if w in seen] + [w for w in seen if w not in practised]
    )


def _world(run: Run, world: str, problems: int, practised: bool) -> str:
    said = [_replies(run, world, stage)[:problems] for stage in run.stages]
    talks = [_talk(replies[i]) for i in range(problems) for replies in said if i < len(replies)]
    name = f"{escape(world)}{' (practised)' if practised else ''}"
    return f"<details{' open' if practised else ''}><summary>{name}</summary>{''.join(talks)}</details>"


def _replies(run: Run, world: str, stage: str) -> list[Sample]:
    """A stage's replies in a world, in the answer format in which it does best there."""
    said = [s for s in run.samples if (s.stage, s.world) == (stage, world)]
    best = best_format(worlds(run).get(world, {}), stage)
    return [s for s in said if best and s.way == best[0]] or said


def _talk(sample: Sample) -> str:
    tokens = []
    for text, p in zip(sample.tokens, sample.probabilities, strict=True):
        shown = escape(text).replace("\n", '<span class="mark">↵</span>\n')
        if text.startswith("<|"):
            shown = f'<span class="mark">{shown}</span>'
        tokens.append(
            f'<span class="token" style="--u:{0.85 * (1 - p):.2f}" title="{escape(repr(text))}: {p:.4f}">{shown}</span>'
        )
    told = ["test split", sample.way, "" if sample.reward is None else f"reward {sample.reward:g}"]
    return (
        f'<div class="talk {escape(sample.stage)}"><div class="note">after {stage_name(sample.stage)}, '
        f"{escape(', '.join(filter(None, told)))}</div>"
        f"<pre>{escape(sample.prompt)}</pre><pre>{''.join(tokens)}</pre></div>"
    )
