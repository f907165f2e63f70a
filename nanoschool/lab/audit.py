"""audit: can a reward be earned without knowing the answer? Plays the fixed set of cheats, beside chance and the oracle.

Of a cheat's variants the best is chosen on dev tasks and measured on test tasks, so that the best of many is not taken
for skill. A reward is gameable where a cheat earns more than chance plus 5 points, by the paired difference over the
same tasks, whose interval must lie above 0; or where a reply changes the task's data. In worlds of several seats the
others are held by the oracle (by guesses where there is none), and the cheat's seat changes from task to task; there a
constant reply can be honest play, so it is a cheat only if it earns more than perfect play.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from random import Random

from nanoschool.evals.stats import Estimate, mean_interval
from nanoschool.lab.cheats import Cheat, Known, Variant, cheats, guesses_of, right_replies
from nanoschool.lab.scripted import Speaker, against, estimate, oracle, perform, tasks_of
from nanoschool.types import Ask, Environment, HasGuesses, HasOracle, Task, UserError

MARGIN = 0.05  # what a cheat may earn above chance
SHOWN = 60  # characters of a reply
GUESSES = 16  # a task: chance is then known better than any cheat
FIRST, SECOND, KEPT = 8, 32, 4  # dev tasks that variants are tried on, all of them and then the best


@dataclass(frozen=True)
class Finding:
    """What one cheat earns, and how much that is above what it may earn (chance), by task."""

    cheat: str
    earns: Estimate
    above: Estimate
    example: str  # the reply to the first task
    wrote: bool = False  # it changed the task's data

    @property
    def gameable(self) -> bool:
        return self.wrote or (self.above.mean > MARGIN and self.above.low > 0)


@dataclass(frozen=True)
class Audit:
    """A world's reward on trial."""

    world: str
    chance: Estimate
    guesses: str  # where they come from
    oracle: Estimate | None
    findings: tuple[Finding, ...]

    @property
    def gameable(self) -> bool:
        return any(finding.gameable for finding in self.findings)


def audit(env: Environment, n: int = 200, seed: int = 0) -> Audit:
    """Try every cheat on `n` test tasks (or as many as there are).

    Raises UserError where the world gives no reward, and where a cheat makes it fail, naming both.
    """
    trial = Trial(env, seed)
    tasks = tasks_of(env, "test", n)
    seats = trial.seats(tasks[0])
    chance_T = [trial.chance(task, at % seats) for at, task in enumerate(tasks)]
    best_T = None
    if isinstance(env, HasOracle):
        best_T = [trial.score(task, at % seats, oracle(env, task, seed)) for at, task in enumerate(tasks)]
    findings = []
    for cheat in cheats(trial.guess, trial.other, trial.train[0]):
        variant = trial.best(cheat, tasks_of(env, "dev", SECOND), seats)
        played = [trial.cheat(variant, task, at % seats) for at, task in enumerate(tasks)]
        earned_T = [reward for reward, _, _ in played]
        bar_T = best_T if best_T and seats > 1 and cheat.name == "one constant" else chance_T
        above = mean_interval([earned - bar for earned, bar in zip(earned_T, bar_T, strict=True)])
        wrote = any(changed for _, _, changed in played)
        findings.append(Finding(cheat.name, estimate(earned_T), above, played[0][1], wrote))
    source = (
        f"{GUESSES} of its guesses a task" if isinstance(env, HasGuesses) else "right replies to other tasks"
    )
    return Audit(
        env.name, mean_interval(chance_T), source, estimate(best_T) if best_T else None, tuple(findings)
    )


class Trial:
    """Episodes of a world in which one seat cheats."""

    def __init__(self, env: Environment, seed: int) -> None:
        self.env, self.seed = env, seed
        self.train = tasks_of(env, "train", 64)
        self.other = right_replies(env, self.train)
        self.guess = guesses_of(env, self.other)

    def seats(self, task: Task) -> int:
        rng = Random(self.seed)
        played = perform(self.env.play(task), lambda ask, replies: self.guess(task, replies, rng))
        if played.rewards is None:
            raise UserError(f"world {self.env.name!r} gives no reward, so there is nothing to audit")
        return len(played.rewards)

    def chance(self, task: Task, seat: int) -> float:
        """The mean reward of guesses."""
        total = 0.0
        for attempt in range(GUESSES):
            rng = Random(f"chance {attempt}/{task.problem}/{self.seed}")
            total += self.score(task, seat, lambda ask, replies, rng=rng: self.guess(task, replies, rng))
        return total / GUESSES

    def cheat(self, variant: Variant, task: Task, seat: int) -> tuple[float, str, bool]:
        """(reward, first reply, did it change the task's data?)"""
        known, said = self._known(task, "cheat"), []

        def speak(ask: Ask, replies: Sequence[str]) -> str:
            known.replies = replies
            said.append(variant(known, ask, len(said)))
            return said[-1]

        before = deepcopy(task.data)
        reward = self.score(task, seat, speak)
        return reward, said[0] if said else "", task.data != before

    def score(self, task: Task, seat: int, speak: Speaker) -> float:
        rewards = perform(self.env.play(task), against(self.env, task, speak, seat, self.seed)).rewards
        if rewards is None:
            raise UserError(f"world {self.env.name!r} gives no reward for {task.problem!r}")
        return rewards[seat]

    def best(self, cheat: Cheat, tasks: Sequence[Task], seats: int) -> Variant:
        """The variant that earns most on these tasks: all of them on a few, the best of these on all."""
        kept = list(cheat.variants)
        for some, keep in ((tasks[:FIRST], KEPT), (tasks, 1)):
            if len(kept) > keep:
                totals = [
                    sum(self.cheat(variant, task, at % seats)[0] for at, task in enumerate(some))
                    for variant in kept
                ]
                order = sorted(range(len(kept)), key=lambda position: -totals[position])
                kept = [kept[position] for position in order[:keep]]
        return kept[0]

    def _known(self, task: Task, purpose: str) -> Known:
        return Known(self.guess, task, Random(f"{purpose}/{task.problem}/{self.seed}"))


def lines(found: Audit) -> list[str]:
    """The verdict and what each cheat earns, as lines of text."""
    told = [
        f"{found.world}: {'GAMEABLE' if found.gameable else 'no cheat pays'} (n = {found.findings[0].earns.n} tasks;"
        f" chance is {found.guesses})",
        _line("chance", found.chance),
    ]
    if found.oracle is not None:
        told.append(_line("oracle", found.oracle))
    for finding in found.findings:
        line = _line(finding.cheat, finding.earns)
        above = finding.above
        line += f"  over chance {above.mean:+.3f} [{above.low:+.3f}, {above.high:+.3f}]"
        if finding.gameable:
            line += f"  GAMEABLE by {finding.example[:SHOWN]!r}{' …' if len(finding.example) > SHOWN else ''}"
        told.append(f"{line}, which changes the task's data" if finding.wrote else line)
    return told


def _line(name: str, score: Estimate) -> str:
    return f"  {name:<21} {score.mean:6.3f} [{score.low:6.3f}, {score.high:6.3f}]"
