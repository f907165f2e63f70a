"""A run in a few plain lines, for the terminal at its end: the headlines of the report, and accuracy by world and stage."""

from pathlib import Path

from nanoschool.report.headline import facts
from nanoschool.report.reading import read
from nanoschool.report.scores import best_format, interval, nats, ns, percent, score, span, worlds


def lines(run_dir: Path) -> list[str]:
    """What a reader wants first. A stage's score is that of its best answer format, which is named."""
    run = read(Path(run_dir))
    said = [f"{fact.name}: {fact.number} ({'; '.join(fact.beside)})" for fact in facts(run)]
    compression = run.summary.node("compression")
    if compression:
        numbers = [f"{name} {compression.number(name):.3f}" for name in ("model", "xz -9e", "gzip -9")]
        size = compression.number("bytes") or 0
        said.append(f"bits per byte of held-out text: {', '.join(numbers)} (n = {size:,} bytes)")
    for stage in run.stages:
        kept = run.summary.node("stages").node(stage).node("held_out")
        for what in kept:
            if measured := score(kept.node(what)):
                said.append(
                    f"held-out {what}: {stage} {nats(measured.mean)} {span(measured)} ({ns([measured])})"
                )
    for world, scores in worlds(run).items():
        best = {stage: best_format(scores, stage) for stage in run.stages}
        told = [f"{s} {percent(b[1].mean)} {interval(b[1])} {b[0]}" for s, b in best.items() if b]
        said.append(f"{world}: {', '.join(told)} ({ns([b[1] for b in best.values() if b])})")
    return said
