"""judging: a learned reward in a run: where it is from, how well it judges, and when it is no longer to be trusted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanoschool.core.policy import Policy
from nanoschool.core.reward_model import RewardModel
from nanoschool.evals.overoptimisation import Drift, parted, warning
from nanoschool.evals.stats import proportion
from nanoschool.folder import Folder
from nanoschool.ledger import Ledger
from nanoschool.methods.base import Learner
from nanoschool.methods.comparisons import world_pairs
from nanoschool.methods.reward_model import margins, reward_model_of
from nanoschool.plan import Evaluation, Stage
from nanoschool.types import HasPairs

COMPARED = 500  # held-out comparisons that a reward model is measured on
ATTEMPTS = 4  # at each dev problem of a look


def found(plan: Stage, stages: Mapping[str, Stage]) -> None:
    """Raise UserError where a stage's judge is to be there already and is not."""
    if plan.judge and plan.judge not in stages:
        RewardModel.load(Path(plan.judge), Ledger())


def judge_of(plan: Stage, stages: Mapping[str, Stage], root: Path, policy: Policy) -> RewardModel | None:
    """Who pays in a stage: a reward model of an earlier stage, or of a checkpoint somewhere; None where the world does.

    Raises UserError where there is none, or one that reads other tokens.
    """
    if not plan.judge:
        return None
    path = root / plan.judge if plan.judge in stages else Path(plan.judge)
    return RewardModel.judging(path, policy, plan.pessimism)


def agreement(learner: Learner, split: str) -> dict[str, Any] | None:
    """The share of held-out comparisons that the stage's reward model orders as the world's judge did.

    None where the stage has no world with comparisons. Dev and test are the same for every run.
    """
    world = learner.env
    if not isinstance(world, HasPairs):
        return None
    pairs = world_pairs(world, split, COMPARED, 0)  # ty: ignore[invalid-argument-type] (frozen)
    measured = margins(reward_model_of(learner), learner.policy, pairs)
    return proportion(sum(margin > 0 for margin in measured), len(measured)).to_json()


def watch(learner: Learner, plan: Stage, asked: Evaluation, folder: Folder) -> tuple[dict[str, float], str]:
    """A look at how far the policy has come, told in the run's metrics; (its numbers, a warning or "")."""
    env, judge, reference = learner.env, learner.judge, learner.reference
    assert env is not None and judge is not None and reference is not None, "a judged stage has all three"
    drift = Drift.of(
        learner.policy,
        reference,
        judge,
        env,
        env.tasks("dev", asked.look),
        samples=ATTEMPTS,
        max_tokens=plan.method.max_tokens,
        temperature=plan.method.temperature,
        seed=learner.draw_seed("drift"),
    )
    alarm = parted(learner.state, learner.step, drift)
    told = drift.to_json(learner.policy)
    folder.append(
        "metrics.jsonl",
        {"stage": learner.stage, "step": learner.step, "drift": told | ({"alarm": alarm} if alarm else {})},
    )
    numbers = {name: told[name]["mean"] for name in ("kl", "proxy", "gold") if name in told}
    return numbers | {"alarm": float(alarm is not None)}, warning(alarm) if alarm else ""
