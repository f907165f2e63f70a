"""summary: summary.json, what came of a run: from the exams of its stages, each with its intervals and n."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from nanoschool.evals.choices import by_knowledge
from nanoschool.evals.exam import gain
from nanoschool.folder import Folder
from nanoschool.plan import Settings
from nanoschool.saving import Progress
from nanoschool.types import UserError

HIDDEN = (
    "rewards",
    "knows",
    "acts",
    "compression",
    "seconds",
)  # of an exam: what it says of each problem stays there


def summarise(settings: Settings, folder: Folder, at: Progress, about: Mapping[str, Any]) -> None:
    """Write summary.json and ledger.json of a run that is at its end; `about` says what model and machine it was."""
    every = {name: folder.read_json(f"exam-{name}.json") for name in settings.course}
    for name, exam in every.items():
        if not exam:
            raise UserError(f"{folder.path / f'exam-{name}.json'}: is missing; restore it, or run anew")
    exams = {name: exam for name, exam in every.items() if "worlds" in exam}  # not a reward model's
    order = list(exams)
    for exam in (
        exams.values()
    ):  # what the first stage knew is what the later ones were to keep, or to be silent about
        for name, ways in exam["acts"].items():
            for way, acts in ways.items():
                exam["worlds"][name][way]["acts_by_knowledge"] = by_knowledge(
                    acts, exams[order[0]]["knows"][name]
                )
    gains = {
        after: gain(exams, before, after, settings.stages[after].env)
        for before, after in pairwise(order)
        if settings.stages[after].env  # the start is nobody's after
    }
    own = [after for after in gains if not settings.stages[after].judge]  # paid by the world itself
    sitting = sum(exam["seconds"] for exam in every.values())
    summary = {
        "name": settings.name,
        "preset": settings.preset,
        "seed": settings.seed,
        **about,
        "seconds": at.seconds | {"evaluation": sitting, "total": sum(at.seconds.values()) + sitting},
        "stages": {n: {k: v for k, v in exam.items() if k not in HIDDEN} for n, exam in every.items()},
        "gain": gains[own[-1]] if own else None,
        "gains": gains,
        "compression": exams[order[-1]]["compression"],
    }
    folder.write_json("ledger.json", at.spent)
    folder.write_json("summary.json", summary)
