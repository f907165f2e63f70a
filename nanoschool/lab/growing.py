"""growing: practice on problems a little longer each round, and whether it leads beyond what the base can do.

After self-improving transformers (Lee et al. 2025, https://arxiv.org/abs/2502.01612), which imitate their own answers to
each longer problem; here they are practised with a reward, so nobody shows one. Beyond the base is who answers more
problems greedily, and more in the base's many attempts (pass@k), than the base or the start in any answer format; what only
brings out a skill that a format hides does not (elicitation).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nanoschool.core.policy import Policy
from nanoschool.evals.measure import answers, rewards, sampled, ways
from nanoschool.evals.passk import pass_at_k
from nanoschool.evals.seeds import Spread, paired, spread
from nanoschool.lab.study import awake, once
from nanoschool.methods.base import Learner, Method
from nanoschool.types import Environment

CHAT = "chat"
MEASURES = ("greedy", "pass@1", "pass@k")


@dataclass(frozen=True)
class Arm:
    """A method that practises problems of `sizes` in turn, `rollouts` attempts in all."""

    method: Method
    sizes: tuple[int, ...]
    rollouts: int


@dataclass(frozen=True)
class Exam:
    """Test problems of each of `sizes`: all answered greedily, the first `sampled` by `attempts` at temperature 1."""

    sizes: tuple[int, ...]
    problems: int = 200
    sampled: int = 100
    attempts: int = 64
    max_tokens: int = 128

    def sit(self, policy: Policy, env: Environment, way: str) -> dict[str, list[float]]:
        """Each measure's value of every problem."""
        tasks = env.tasks("test", self.problems)
        greedy = rewards(answers(policy, env, tasks, way, max_tokens=self.max_tokens))
        groups = sampled(policy, env, tasks[: self.sampled], way, self.attempts, self.max_tokens)
        right = [sum(reward >= 1.0 for reward in group) for group in groups]
        many = {k: [pass_at_k(self.attempts, c, k) for c in right] for k in (1, self.attempts)}
        return dict(zip(MEASURES, (greedy, *many.values()), strict=True))


@dataclass(frozen=True)
class Study:
    """Arms and seeds, each made once and kept in `out`; `found` are the policies before practice, the last their start."""

    out: Path
    found: Mapping[str, Policy]
    world: Callable[[int], Environment]  # by size
    arms: Mapping[str, Arm]
    exam: Exam
    replayed: Mapping[str, Environment]  # worlds whose demonstrations are replayed, in even shares

    def page(self, seeds: Sequence[int]) -> str:
        """Tables in Markdown, one a size; runs what has not been run."""
        before = {name: once(self.out, name, partial(self.formats, p)) for name, p in self.found.items()}
        after: dict[str, list[dict]] = {name: [] for name in self.arms}
        for seed in seeds:  # whole seeds, so that a study broken off compares like with like
            for name, arm in self.arms.items():
                after[name].append(once(self.out, f"{name}-{seed}", partial(self.practise, arm, seed)))
        return "\n".join(line for size in self.exam.sizes for line in self._table(str(size), before, after))

    def formats(self, policy: Policy) -> dict[str, Any]:
        """What a policy can do before practice, by size and answer format."""
        return {
            str(size): {way: self.exam.sit(policy, self.world(size), way) for way in ways(self.world(size))}
            for size in self.exam.sizes
        }

    def practise(self, arm: Arm, seed: int) -> dict[str, Any]:
        """A copy of the start after an arm's rounds: by size, what it can do in chat; and the reward of every step."""
        policy, course = awake(list(self.found.values())[-1]), []
        for size in arm.sizes:
            env = self.world(size)
            arm.method.check(env)
            shares = dict.fromkeys(self.replayed, 1.0)
            learner = Learner(policy, env, dict(self.replayed), {}, shares, seed, f"round-{size}")
            before, share = policy.ledger.total("practice").rollouts, arm.rollouts / len(arm.sizes)
            arm.method.begin(learner)
            while learner.progress < 1.0:
                with policy.ledger.account("practice"):
                    course.append([size, arm.method.step(learner)["reward"]])
                learner.step += 1
                learner.progress = (policy.ledger.total("practice").rollouts - before) / share
        spent = policy.ledger.total("practice")
        can = {str(size): self.exam.sit(policy, self.world(size), CHAT) for size in self.exam.sizes}
        return {"can": can, "course": course, "flops": spent.flops, "rollouts": spent.rollouts}

    def _table(self, size: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
        e, S = self.exam, len(next(iter(after.values())))
        lines = [f"### Size {size} ({e.problems} test problems, {e.sampled} for pass@k; {S} seeds)", ""]
        lines += [f"| | greedy | pass@1 | pass@{e.attempts} |", "|---|---|---|---|"]
        asked = {f"{name}, {way}": sat for name, can in before.items() for way, sat in can[size].items()}
        for name, sat in asked.items():
            lines.append(_row(name, [spread([sat[measure]], (0.0, 1.0)) for measure in MEASURES]))
        best = {m: max((sat[m] for sat in asked.values()), key=sum) for m in MEASURES}
        for name, runs in after.items():
            can = {m: [run["can"][size][m] for run in runs] for m in MEASURES}
            lines.append(_row(name, [spread(can[m], (0.0, 1.0)) for m in MEASURES]))
            differences = [paired([best[m]] * S, can[m]) for m in MEASURES]
            lines.append(_row("… less the best before, by problem", differences, "+"))
        return [*lines, ""]


def _row(name: str, found: Sequence[Spread], sign: str = "") -> str:
    cells = []
    for one in found:
        low, high = one.interval()
        cells.append(f"{one.mean:{sign}.3f} [{low:.3f}, {high:.3f}]")
    return f"| {name} | {' | '.join(cells)} |"
