"""bandwidth: how many bits of a hidden rule an arm learns, against episodes and FLOPs; and what sleep keeps of all else.

An arm is a method in the world that hides the rule, from the same start, until it recalls the rule or its episodes are
spent; who never recalls is censored there. What measuring costs is not the arm's. The start is the policy that is handed
in after a habit: a short imitation of other rule-books, notes and writing notes among them, for a model that has never
seen a system message says nothing about notes by failing to read one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from nanoschool.core import checkpoint
from nanoschool.core.policy import Policy
from nanoschool.envs.hidden import Hidden
from nanoschool.envs.noted import Noted
from nanoschool.envs.rules import Rules
from nanoschool.evals.learned import learned_bits
from nanoschool.evals.measure import answers
from nanoschool.lab.kept import kept
from nanoschool.lab.study import awake, once
from nanoschool.methods.base import Learner, Method
from nanoschool.methods.sft import SFT
from nanoschool.methods.sleep import Sleep
from nanoschool.types import Environment, UserError

OTHERS: dict[str, Environment] = {"noted": Noted(), "rules": Rules()}  # whose form is learned, and replayed
RECALL = 0.99  # of the test questions, from which a rule counts as recalled
LOOKS = 1.25  # from one look to the next, in episodes
HABIT = 240  # steps of imitation before the study
NIGHT = 120  # steps of sleep


@dataclass(frozen=True)
class Arm:
    method: Method
    episodes: int  # at most
    pays: Callable[[Hidden], Environment] = lambda world: world  # the world under the arm's reward


class Study:
    """Arms and nights over seeds; each is a file in `out`, so a study that is killed goes on with what it lacks."""

    def __init__(
        self,
        out: Path,
        found: Policy,
        arms: Mapping[str, Arm],
        nights: Mapping[str, Sleep],
    ) -> None:
        self.out, self.found, self.arms, self.nights = out, found, arms, nights

    def page(self, seeds: Sequence[int]) -> str:
        """The table, every number with its n; runs what has not been run. A seed is a rule and all draws."""
        start = self.start()
        gate = once(self.out, "gate", lambda: kept(start))
        if gate["gate"] <= 0.99:
            raise UserError(
                f"{self.out}: the start fails the reading gate ({gate['gate']:.4f}); take another --start"
            )
        learned: dict[str, list] = {name: [] for name in self.arms}
        slept: dict[str, list] = {name: [] for name in self.nights}
        for seed in seeds:  # whole seeds, so that a study broken off compares like with like
            for name, arm in self.arms.items():
                course = partial(self.course, arm, start, seed)
                learned[name].append(once(self.out, f"{name}-{seed}", course))
            for name, night in self.nights.items():
                asleep = partial(self.sleep, night, start, seed)
                slept[name].append(once(self.out, f"sleep-{name}-{seed}", asleep))
        lines = [f"start: {said(gate)}", "", HEAD]
        lines += [line(name, arm.episodes, learned[name]) for name, arm in self.arms.items()]
        for name, runs in slept.items():
            for when in ("before", "after"):
                means = {key: sum(run[when][key] for run in runs) / len(runs) for key in KEPT}
                lines.append(f"sleep, {name}, {when} (n = {len(runs)}): {said(means)}")
        return "\n".join(lines)

    def start(self) -> Policy:
        """The policy that was found, after its habit, which is made once."""
        policy, path = awake(self.found), self.out / "checkpoints" / "habit"
        if not path.exists():
            learner = learner_in(policy, None, seed=0)
            habit = SFT(replay=0)
            habit.begin(learner)
            for learner.step in range(HABIT):
                learner.progress = learner.step / HABIT
                habit.step(learner)
            checkpoint.write(
                path.parent,
                path.name,
                config=policy.model.config.to_hf(),
                weights=policy.model.state_dict(),
                tokenizer=policy.tokenizer,
                training={},
                state={},
            )
        policy.model.load_state_dict(checkpoint.read(path).weights, strict=not policy.model.config.tied)
        return policy

    def course(self, arm: Arm, start: Policy, seed: int) -> dict[str, Any]:
        return self.learn(arm, start, seed)[1]

    def learn(self, arm: Arm, start: Policy, seed: int) -> tuple[Policy, dict[str, Any]]:
        """A copy of `start` that was taught by an arm; and its course: a point a look, and the episodes until it recalled
        the rule, None where it is censored."""
        hidden, policy = Hidden(rule=seed), awake(start)
        learner = learner_in(policy, arm.pays(hidden), seed)
        arm.method.check(arm.pays(hidden))
        arm.method.begin(learner)
        points, recalled, following = [look(policy, hidden)], None, 1.0
        while learner.progress < 1.0 and recalled is None:
            with policy.ledger.account("learning"):
                arm.method.step(learner)
            learner.step += 1
            episodes = policy.ledger.total("learning").rollouts
            learner.progress = episodes / arm.episodes
            if episodes >= following or learner.progress >= 1.0:
                following = episodes * LOOKS
                points.append(look(policy, hidden))
                recalled = episodes if points[-1]["recall"] >= RECALL else None
        return policy, {"points": points, "recalled": recalled, "notes": policy.prompt}

    def sleep(self, night: Sleep, start: Policy, seed: int) -> dict[str, Any]:
        """Distil the first arm's notes into the weights: the rule without notes and other rule-books, before and after."""
        noted, _ = self.learn(next(iter(self.arms.values())), start, seed)
        hidden, policy = Hidden(rule=seed), awake(noted)
        learner = learner_in(policy, hidden, seed)
        learner.reference = noted
        noted.ledger = policy.ledger
        night.begin(learner)
        before, points = look(policy, hidden) | kept(policy), []
        for learner.step in range(NIGHT):
            learner.progress = learner.step / NIGHT
            with policy.ledger.account("learning"):
                night.step(learner)
            if (learner.step + 1) % (NIGHT // 6) == 0:
                points.append(look(policy, hidden))
        return {"points": points, "before": before, "after": points[-1] | kept(policy)}


KEPT = ("bits", "recall", "book", "notes", "gate")
HEAD = "arm: recalled of seeds, episodes until then (median, censored at the limit), bits of 24 and FLOPs at the end"


def line(name: str, limit: int, runs: Sequence[Mapping[str, Any]]) -> str:
    """An arm's line: medians over seeds, and every seed's bits at the end."""
    recalled = [run["recalled"] for run in runs]
    episodes = median(limit if r is None else r for r in recalled)
    ends = [run["points"][-1] for run in runs]
    bits = ", ".join(f"{end['bits']:.1f}" for end in ends)
    done = sum(r is not None for r in recalled)
    until = f"{episodes:g}" if 2 * done > len(runs) else f"> {limit:g}"
    flops = median(end["flops"] for end in ends)
    return f"{name}: {done} of {len(runs)}, {until} episodes, bits {bits}, {flops:.3g} FLOPs"


def said(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in numbers.items())


def learner_in(policy: Policy, env: Environment | None, seed: int) -> Learner:
    return Learner(policy, env, OTHERS, {}, dict.fromkeys(OTHERS, 1.0), seed, "study")


def look(policy: Policy, hidden: Hidden, questions: int = 48) -> dict[str, float]:
    """What is known of the hidden rule, and what learning it has cost so far."""
    spent = policy.ledger.total("learning")
    with policy.ledger.account("looks"):
        tried = answers(policy, hidden, hidden.tasks("test", questions), max_tokens=32)
        known = learned_bits(policy, hidden)
    recall = sum(t.rewards or 0.0 for t in tried) / len(tried)
    return {"episodes": spent.rollouts, "flops": spent.flops, **known, "recall": recall}
