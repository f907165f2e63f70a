"""goodhart: what becomes of a policy optimised against a learned reward, by arm, size of data and seed (2210.10760).

A unit is an arm, a number of noisy comparisons and a seed. It is written when it is done, so the same call goes on after a
kill. Every unit begins with the same policy and is looked at on the same held-out problems: KL to the start, the score of
the judge that was trained on these comparisons, gold. An arm that pays by a judge, and one that learns from the comparisons
themselves, are measured by the same judge. What we changed from the paper: gold is a formula (envs/gold.py), and judges
start from the policy's trunk.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from math import comb, log
from pathlib import Path
from typing import Any

from nanoschool.core.files import write_atomic
from nanoschool.core.policy import Policy
from nanoschool.core.reward_model import RewardModel
from nanoschool.evals.overoptimisation import Drift, parted, truth
from nanoschool.evals.stats import proportion
from nanoschool.methods.base import Learner, Method
from nanoschool.methods.comparisons import world_pairs
from nanoschool.methods.reward_model import RewardModelling, margins, reward_model_of
from nanoschool.rollout import rollout
from nanoschool.types import Environment, HasPairs, Task, UserError

BEST_OF = "best of n"  # the arm that optimises by choosing among samples


@dataclass(frozen=True)
class Arm:
    """A method, and whom it is paid by: how many members judge, and how careful they are where they disagree."""

    method: Method
    members: int = 1
    pessimism: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What every unit shares."""

    sizes: tuple[int, ...] = (200, 1000, 5000)  # comparisons
    seeds: tuple[int, ...] = (1, 2, 3)
    steps: int = 80
    every: int = 8  # steps between looks
    problems: int = 64  # test problems of a look
    samples: int = 2  # attempts at each
    pool: int = 256  # attempts at each that the best is chosen among
    passes: float = 2.0  # of a judge over its comparisons
    longest: int = 24  # tokens of a reply
    lr: float = 1e-3  # of a judge
    compared: int = 1000  # held-out comparisons that it is measured on


@dataclass(frozen=True)
class Experiment:
    start: Policy
    env: Environment
    arms: dict[str, Arm]
    plan: Plan
    out: Path

    def units(self) -> Iterator[tuple[str, int, int]]:
        for seed in self.plan.seeds:
            for size in self.plan.sizes:
                yield from ((arm, size, seed) for arm in (BEST_OF, *self.arms))

    def run(self) -> Iterator[dict[str, Any]]:
        """Every unit, from its file where it has one. UserError where that was made with other settings."""
        for arm, size, seed in self.units():
            path = self.out / f"{arm.replace(' ', '_')}-{size}-{seed}.json"
            if not path.exists():
                unit = self._best_of(size, seed) if arm == BEST_OF else self._arm(arm, size, seed)
                unit = {"arm": arm, "size": size, "seed": seed, "settings": self._settings(arm), **unit}
                write_atomic(path, json.dumps(unit).encode())
            made = json.loads(path.read_text())
            if made["settings"] != self._settings(arm):
                raise UserError(f"{path}: was made with other settings; name another folder")
            yield made

    def judge(self, size: int, seed: int, members: int, pessimism: float = 0.0) -> RewardModel:
        """Trained on `size` comparisons, once: it is kept beside the units."""
        root, name = self.out / "judges", f"judge-{size}-{seed}-{members}"
        if not (root / name).exists():
            method = RewardModelling(known=size, members=members, lr=self.plan.lr)
            learner = self._learner(method, seed)
            method.begin(learner)
            steps = max(40, round(self.plan.passes * size / method.pairs))
            for learner.step in range(steps):
                learner.progress = learner.step / steps
                method.step(learner)
            method.conclude(learner)
            reward_model_of(learner).save(root, name)
        return RewardModel.judging(root / name, self.start, pessimism)

    def _settings(self, arm: str) -> str:
        """All that a unit's numbers follow from, but for the start, its size and its seed."""
        shared = replace(self.plan, sizes=(), seeds=())
        return f"{shared} {self.arms.get(arm, arm)} {self.env}"

    def tasks(self) -> Sequence[Task]:
        return self.env.tasks("test", self.plan.problems)

    def _learner(self, method: Method, seed: int) -> Learner:
        """A copy of the start, to be taught."""
        policy = self.start.snapshot()
        policy.model.requires_grad_(True)
        return Learner(policy, self.env, {}, {}, {}, seed, "goodhart", reference=self.start)

    def _arm(self, name: str, size: int, seed: int) -> dict[str, Any]:
        arm, plan = self.arms[name], self.plan
        settings = {"known": size, "max_tokens": plan.longest, "replay": 0}
        known = {f.name for f in fields(arm.method)}
        method = replace(arm.method, **{key: value for key, value in settings.items() if key in known})
        learner = self._learner(method, seed)
        judge = self.judge(size, seed, arm.members, arm.pessimism)
        learner.judge = judge if method.judged else None
        method.begin(learner)
        points: list[dict[str, Any]] = []
        alarms: list[dict[str, Any]] = []
        for learner.step in range(plan.steps + 1):
            if learner.step % plan.every == 0 or learner.step == plan.steps:
                found = self._look(learner, judge)
                alarm = parted(learner.state, learner.step, found)
                alarms += [{"step": learner.step, **alarm}] if alarm else []
                points.append({"step": learner.step, **said(learner.policy, found)})
            if learner.step < plan.steps:
                learner.progress = learner.step / plan.steps
                method.step(learner)
        return {"judge": self._agreement(judge, seed), "points": points, "alarms": alarms}

    def _look(self, learner: Learner, judge: RewardModel) -> Drift:
        return Drift.of(
            learner.policy,
            self.start,
            judge,
            self.env,
            self.tasks(),
            samples=self.plan.samples,
            max_tokens=self.plan.longest,
            seed=learner.draw_seed("look"),
        )

    def _best_of(self, size: int, seed: int) -> dict[str, Any]:
        """Of n samples of the start the one that the judge likes best, for n = 1, 2, 4, … up to the pool."""
        plan, judge = self.plan, self.judge(size, seed, 1)
        points: dict[int, dict[str, list[float]]] = {
            2**k: {"proxy": [], "gold": []} for k in range(plan.pool.bit_length())
        }
        for task in self.tasks():
            attempts = rollout(
                self.start, self.env, [task], samples=plan.pool, max_tokens=plan.longest, seed=seed, rows=256
            )
            scored = sorted(zip(judge.score(attempts), map(truth, attempts), strict=True))
            for n, found in points.items():
                chances = best_of(n, len(scored))
                found["proxy"].append(sum(c * score for c, (score, _) in zip(chances, scored, strict=True)))
                found["gold"].append(
                    sum(c * (gold or 0.0) for c, (_, gold) in zip(chances, scored, strict=True))
                )
        told = [
            {"step": n, "kl": [log(n) - (n - 1) / n] * plan.problems, **found} for n, found in points.items()
        ]
        return {"judge": self._agreement(judge, seed), "points": told, "alarms": []}

    def _agreement(self, judge: RewardModel, seed: int) -> dict[str, float]:
        assert isinstance(self.env, HasPairs)
        pairs = world_pairs(self.env, "test", self.plan.compared, 0)  # ty: ignore[invalid-argument-type] (frozen)
        found = margins(judge, self.start, pairs)
        return proportion(sum(margin > 0 for margin in found), len(found)).to_json()


def best_of(n: int, pool: int) -> list[float]:
    """The chance of each of `pool` samples, the worst first, to be the best of n drawn without replacement.

    With it the mean over one pool is an unbiased estimate for every n, as pass@k's is (2107.03374).
    """
    return [comb(rank, n - 1) / comb(pool, n) for rank in range(pool)]


def said(policy: Policy, found: Drift) -> dict[str, Any]:
    """A look as a unit keeps it: every problem's numbers, and the first reply."""
    first = found.said.mask.index(True)
    return {
        "kl": found.kl,
        "proxy": found.proxy,
        "gold": found.gold,
        "said": policy.tokenizer.decode(found.said.tokens[first:]),
    }
