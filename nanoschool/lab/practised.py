"""practised: a method trained from the start of a comparison, on the one loop; a killed one goes on to the same bits."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanoschool import train
from nanoschool.core.policy import Policy
from nanoschool.evals.measure import answers, rewards
from nanoschool.folder import Folder
from nanoschool.lab.comparison import Comparison, settings
from nanoschool.ledger import Budget, Ledger
from nanoschool.methods.base import Learner
from nanoschool.plan import Settings
from nanoschool.saving import Progress, named, restore, resumable
from nanoschool.start import open_weights
from nanoschool.training import STAGE
from nanoschool.types import Environment

if TYPE_CHECKING:
    from nanoschool.lab.cells import Cell

SAVE = 5  # steps between checkpoints
EVALUATION = "evaluation"  # the account of all that only measures
EXAM = "exam.json"

Exam = Callable[[Policy, Policy], dict[str, Any]]  # (the best on dev, the start) -> what is measured of it


def begun(plan: Settings, device: str, ledger: Ledger) -> Policy:
    """The start."""
    return open_weights(Path(plan.start.path), plan.model.context, ledger, device, say=lambda line: None)


def practise(
    comparison: Comparison,
    cell: "Cell",
    folder: Folder,
    show: train.Show,
    share: float,
    looks: int,
    exam: Exam | None = None,
) -> dict[str, Any]:
    """Train a cell's method at `share` of the budget, or what is left of it; returns its curve on dev, costs and exam.

    Where the loss is no number the training is over, as told by `diverged`, and the best on dev until then is its outcome.
    """
    plan = settings(comparison, cell.method)
    method, env = plan.stages[STAGE].method, plan.worlds[comparison.env]
    method = replace(method, lr=cell.lr) if cell.lr else method
    saved = resumable(folder.checkpoints, show.say)
    at = Progress(**saved.state) if saved else Progress(STAGE)
    folder.cut(at.lengths)
    policy = begun(plan, comparison.device, Ledger.from_json(at.spent))
    before = policy.snapshot()
    if saved:
        restore(policy, saved)
    learner = Learner(
        policy=policy,
        env=env,
        worlds=plan.worlds,
        read={name: part for name, part in plan.mix.items() if part > 0},
        taught=plan.taught,
        seed=cell.seed,
        stage=STAGE,
        reference=before if method.needs_reference else None,
    )

    def sit(best: Policy) -> None:
        if exam is not None:
            with best.ledger.account(EVALUATION), best.ledger.account("test"):
                folder.write_json(EXAM, exam(best, before))

    budget = Budget.parse(comparison.budget)
    stage = train.Stage(
        STAGE,
        method,
        replace(budget, limit=budget.limit * share),
        look=lambda student: look(student, env, comparison),
        exam=sit,
        due=train.shares(looks),
        save=SAVE,
        keep=1,
    )
    diverged = ""
    if not at.done:
        try:
            at = train.train(stage, learner, folder, show, saved, {})
        except train.Diverging as trouble:
            diverged, at = str(trouble), _best_so_far(policy, folder)
            sit(policy)
    return {
        "diverged": diverged,
        "best": {"step": at.best["step"], "dev": at.best["score"]},
        "curve": curve(folder),
        "spent": policy.ledger.to_json(),
        "exam": folder.read_json(EXAM),
    }


def look(policy: Policy, env: Environment, comparison: Comparison) -> tuple[float, dict[str, Any]]:
    """Greedy answers to the dev problems, the same at every look of every arm."""
    tasks = env.tasks("dev", comparison.dev)
    with policy.ledger.account(EVALUATION), policy.ledger.account("dev"):
        scores = rewards(answers(policy, env, tasks, max_tokens=comparison.max_tokens))
    return sum(scores) / len(scores), {"score": sum(scores) / len(scores), "problems": len(scores)}


def curve(folder: Folder) -> list[dict[str, float]]:
    """Every look: what practice had cost by then, and the score on dev."""
    lines = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    return [
        {"step": line["step"], "seconds": line["seconds"], **line["spent"], "dev": line["dev"]["score"]}
        for line in lines
        if "dev" in line
    ]


def _best_so_far(policy: Policy, folder: Folder) -> Progress:
    best = named(folder.checkpoints, "best")
    restore(policy, best)
    return Progress(**best.state)
