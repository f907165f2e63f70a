"""xray: the credit that every method gives to the steps of the same attempts, held against what each step was truly worth.

The measured form of "reinforcement rewards every step of a lucky path". A policy attempts train problems; the truth of each
step comes from rollouts forked from its start and from the oracle (`truth`), the credit from the methods' own steps
(`credited`). A step's credit is the mean over its tokens. What comes out is plain JSON; `report.xray` draws it.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from nanoschool import methods
from nanoschool.core.policy import Policy
from nanoschool.lab.credited import Bench, Sizes, credited
from nanoschool.lab.gradients import Beside
from nanoschool.lab.marks import Credit, Told, counts, grades, luckiest, sureness
from nanoschool.lab.remembered import remembered
from nanoschool.lab.truth import Key, Value, states_of, steps, values
from nanoschool.ledger import Cost
from nanoschool.rollout import alone, rollout, stable_hash
from nanoschool.types import Environment, HasSteps, Trajectory, UserError


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    sizes: Sizes = field(default_factory=Sizes)
    forks: int = 200  # rollouts from the start of every step
    least: float = 0.05  # a step whose advantage is within ± this made no difference
    seed: int = 1


def check(env: Environment) -> None:
    """Raise UserError where the world has no steps to credit, or cannot be forked."""
    if not isinstance(env, HasSteps):
        raise UserError(
            f"xray: world {env.name!r} has no steps to credit; name one that has: steps, chain, sums"
        )
    if not env.replayable:
        raise UserError(
            f"xray: world {env.name!r} cannot be replayed, so the value of a step cannot be measured"
        )


def xray(
    policy: Policy,
    env: Environment,
    names: Sequence[str],
    plan: Plan,
    file: Path,
    say: Callable[[str], None],
    teacher: Policy | None = None,
) -> dict[str, Any]:
    """Look at the methods of `names`. The values that are measured are kept in `file`, so that what was killed goes on.

    Memory: the gradients of two methods, problems × parameters × 4 bytes each.
    """
    check(env)
    attempts = scored_attempts(policy, env, plan)
    value = measured(policy, env, attempts, plan, file, say)
    told = Told(attempts, [steps(policy, env, t, value) for t in attempts], plan.least)
    bench = Bench(policy, env, plan.sizes, plan.seed, attempts, teacher)
    truth = Beside(policy, attempts, told.credit())
    seen: dict[str, Any] = {}
    credits: dict[str, Credit] = {}
    left_out: dict[str, str] = {}
    for name in names:
        try:
            with policy.ledger.account(name):
                credits[name] = credited(bench, name)
        except UserError as reason:
            left_out[name] = str(reason)
            continue
        seen[name] = grades(told, credits[name]) | truth.marks(credits[name])
        say(f"{name}: credit of {len(attempts)} attempts")
    lines = methods.describe()
    return {
        "world": env.name,
        "plan": asdict(plan),
        "n": counts(told),
        "truth": sureness(told) | {"signal_to_noise": truth.signal_to_noise},
        "methods": {name: {"about": lines.get(name, name)} | found for name, found in seen.items()},
        "left_out": left_out,
        "lucky": shown(policy, told, credits),
        "cost": policy.ledger.to_json(),
    }


def scored_attempts(policy: Policy, env: Environment, plan: Plan) -> list[Trajectory]:
    sizes = plan.sizes
    with policy.ledger.account("attempts"):
        attempts = rollout(
            policy,
            env,
            env.tasks("train", sizes.problems, seed=stable_hash(f"{plan.seed}/xray/tasks")),
            samples=sizes.samples,
            temperature=sizes.temperature,
            max_tokens=sizes.max_tokens,
            seed=stable_hash(f"{plan.seed}/xray/attempts"),
            play=alone(env, env.play),
        )
    scored = [t for t in attempts if t.rewards is not None]
    if not scored:
        raise UserError(f"xray: world {env.name!r} scores no attempt, so no step has a value")
    return scored


def measured(
    policy: Policy,
    env: Environment,
    attempts: Sequence[Trajectory],
    plan: Plan,
    file: Path,
    say: Callable[[str], None],
) -> dict[Key, Value]:
    """The value of every state that a step starts from, problem by problem. What the file has is billed all the same."""
    groups = list(dict.fromkeys(t.group for t in attempts))
    states = [states_of(policy, env, [t for t in attempts if t.group == group]) for group in groups]

    def work(part: int) -> dict[str, Any]:
        before = policy.ledger.total("values")
        with policy.ledger.account("values"):
            found = values(
                policy,
                env,
                list(states[part].values()),
                forks=plan.forks,
                temperature=plan.sizes.temperature,
                max_tokens=plan.sizes.max_tokens,
                seed=stable_hash(f"{plan.seed}/xray/values"),
            )
        say(f"values: {len(found)} states, problem {part + 1} of {len(groups)}")
        return {
            "values": [[v.mean, v.error, v.n] for v in found],
            "cost": asdict(policy.ledger.total("values") - before),
        }

    about = {"weights": weights_of(policy), "world": repr(env), "plan": asdict(plan) | {"least": None}}
    parts = remembered(file, about, len(groups), work)
    spent = sum((Cost(**part["cost"]) for part in parts), Cost())
    with policy.ledger.account("values"):
        policy.ledger.charge(**asdict(spent - policy.ledger.total("values")))  # what a killed run has paid
    return {
        key: Value(*value)
        for mine, part in zip(states, parts, strict=True)
        for key, value in zip(mine, part["values"], strict=True)
    }


def weights_of(policy: Policy) -> str:
    """SHA-256 of the weights and the notes."""
    digest = sha256(policy.prompt.encode())
    for name, tensor in sorted(policy.model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def shown(policy: Policy, told: Told, credits: dict[str, Credit]) -> dict[str, Any]:
    """The luckiest attempt, token by token; each method's credit in units of its own root mean square over all tokens."""
    i = luckiest(told)
    t, mine = told.attempts[i], told.steps[i]
    first = mine[0].first
    scale = {
        name: float(np.sqrt(np.mean([w * w for row, a in zip(credit, told.attempts, strict=True)
                                     for w, m in zip(row, a.mask, strict=True) if m])))
        for name, credit in credits.items()
    }  # fmt: skip
    return {
        "asked": policy.tokenizer.decode(t.tokens[:first]),
        "reward": t.rewards,
        "tokens": [policy.tokenizer.decode([token]) for token in t.tokens[first:]],
        "sampled": t.mask[first:],
        "steps": [
            {
                "first": step.first - first,
                "past": step.past - first,
                "before": asdict(step.before),
                "after": asdict(step.after),
                "advantage": step.advantage,
                "error": step.error,
                "perfect": step.perfect,
            }
            for step in mine
        ],
        "credit": {
            name: [w / scale[name] if scale[name] else 0.0 for w in credit[i][first:]]
            for name, credit in credits.items()
        },
    }
