"""audit: can a reward be earned without knowing the answer? Plays the fixed set of cheats, beside chance and the oracle.

Of a cheat's variants the best is chosen on dev tasks and measured on test tasks, so that the best of many is not taken
for skill. A reward is gameable where a cheat earns more than chance plus 5 points, by the paired difference over the
same tasks, whose interval must lie above 0; or where a reply changes the task's data. In worlds of several seats the
others are held by perfect play (by guesses where there is none), and the cheat's seat changes from task to task. There a
constant reply can be honest play, so it is a cheat only if it earns more than perfect play. Nor is it a cheat to
abstain, where a world pays for that: a constant of which the outcome's info says "abstained" is listed apart.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from nanoschool.evals.stats import Estimate, mean_interval
from nanoschool.lab.cheats import CONSTANT, Cheat, Variant, cheats
from nanoschool.lab.known import Known, guesses_of, right_replies
from nanoschool.lab.scripted import Speaker, against, estimate, oracle, perform, tasks_of
from nanoschool.types import Ask, Environment, HasGuesses, HasOracle, Outcome, Task, UserError

MARGIN = 0.05  # what a cheat may earn above chance
SHOWN = 60  # characters of a reply
GUESSES = 16  # a task: chance is then known better than any cheat
TRAIN = 64  # tasks whose right replies may be known
FIRST, SECOND, KEPT = 8, 32, 4  # dev tasks that variants are tried on, all of them and then the best


@dataclass(frozen=True)
class Finding:
    """What one cheat earns, and how much that is above what may be earned so (chance), by task."""

    cheat: str
    earns: Estimate
    above: Estimate
    bar: str  # what it is above
    example: str  # the reply to the first task
    wrote: bool  # it changed the task's data

    @property
    def gameable(self) -> bool:
        return self.wrote or (self.above.mean > MARGIN and self.above.low > 0)


@dataclass(frozen=True)
class Audit:
    """A world's reward on trial."""

    world: str
    n: int
    guesses: str  # where those that are taken for chance come from
    honest: Mapping[str, Estimate]  # chance, oracle, abstaining: as far as there is such a thing
    findings: tuple[Finding, ...]

    @property
    def gameable(self) -> bool:
        return any(finding.gameable for finding in self.findings)


@dataclass(frozen=True)
class Attempt:
    """An episode in which one seat cheated."""

    reward: float
    said: str  # first
    wrote: bool
    abstained: bool


def audit(env: Environment, n: int = 200, seed: int = 0) -> Audit:
    """Try every cheat on `n` test tasks (or as many as there are). Raises UserError where the world gives no reward."""
    trial = Trial(env, seed)
    tasks = tasks_of(env, "test", n)
    tried = tasks_of(env, "dev", SECOND)
    chance_T = trial.chance(tasks)
    honest = {"chance": mean_interval(chance_T)}
    bars = {"chance": chance_T}
    if isinstance(env, HasOracle):
        bars["perfect play"] = trial.perfect(tasks)
        honest["oracle"] = estimate(bars["perfect play"])
    findings = []
    for cheat in cheats(trial.guess, trial.other, trial.train[0]):
        bar = "chance"
        if cheat.name == CONSTANT:
            bar = "perfect play" if trial.seats > 1 and "perfect play" in bars else bar
            abstaining = [
                variant for variant in cheat.variants if trial.attempts(variant, tried[:1])[0].abstained
            ]
            if abstaining:
                honest["abstaining"] = estimate([a.reward for a in trial.attempts(abstaining[0], tasks)])
                cheat = replace(cheat, variants=tuple(v for v in cheat.variants if v not in abstaining))
        played = trial.attempts(trial.best(cheat, tried), tasks)
        above = [attempt.reward - may for attempt, may in zip(played, bars[bar], strict=True)]
        earns = estimate([attempt.reward for attempt in played])
        wrote = any(attempt.wrote for attempt in played)
        findings.append(Finding(cheat.name, earns, mean_interval(above), bar, played[0].said, wrote))
    source = (
        f"{GUESSES} of its guesses a task" if isinstance(env, HasGuesses) else "right replies to other tasks"
    )
    return Audit(env.name, len(tasks), source, honest, tuple(findings))


class Trial:
    """Episodes of a world in which one seat, in several-seated worlds another from task to task, cheats."""

    def __init__(self, env: Environment, seed: int) -> None:
        self.env, self.seed = env, seed
        self.train = tasks_of(env, "train", TRAIN)
        self.other = right_replies(env, self.train)
        self.guess = guesses_of(env, self.other)
        self.known: dict[str, Known] = {}  # by problem: what variants find out about it they find out once
        rng, task = Random(seed), self.train[0]
        rewards = perform(env.play(task), lambda ask, replies: self.guess(task, replies, rng)).rewards
        if rewards is None:
            raise UserError(f"world {env.name!r} gives no reward, so there is nothing to audit")
        self.seats = len(rewards)

    def chance(self, tasks: Sequence[Task]) -> list[float]:
        """The mean reward of guesses at each task."""
        means = []
        for at, task in enumerate(tasks):
            rng = Random(f"chance/{task.problem}/{self.seed}")
            speak = partial(self._guess, task, rng)
            means.append(sum(self._play(task, at, speak)[0] for _ in range(GUESSES)) / GUESSES)
        return means

    def perfect(self, tasks: Sequence[Task]) -> list[float]:
        return [self._play(task, at, oracle(self.env, task, self.seed))[0] for at, task in enumerate(tasks)]

    def attempts(self, variant: Variant, tasks: Sequence[Task]) -> list[Attempt]:
        return [self._cheat(variant, task, at) for at, task in enumerate(tasks)]

    def best(self, cheat: Cheat, tasks: Sequence[Task]) -> Variant:
        """The variant that earns most on these tasks: all of them are tried on a few, the best of these on all."""
        kept = list(cheat.variants)
        for some, keep in ((tasks[:FIRST], KEPT), (tasks, 1)):
            if len(kept) > keep:
                totals = [sum(attempt.reward for attempt in self.attempts(variant, some)) for variant in kept]
                order = sorted(range(len(kept)), key=lambda position: -totals[position])
                kept = [kept[position] for position in order[:keep]]
        return kept[0]

    def _cheat(self, variant: Variant, task: Task, at: int) -> Attempt:
        known = self.known.setdefault(task.problem, Known(self.guess, task))
        known.rng = Random(f"cheat/{task.problem}/{self.seed}")
        said: list[str] = []

        def speak(ask: Ask, replies: Sequence[str]) -> str:
            known.replies = replies
            said.append(variant(known, ask, len(said)))
            return said[-1]

        before = deepcopy(task.data)
        reward, outcome = self._play(task, at, speak)
        abstained = outcome.info.get("abstained") is True
        return Attempt(reward, said[0] if said else "", task.data != before, abstained)

    def _play(self, task: Task, at: int, speak: Speaker) -> tuple[float, Outcome]:
        seat = at % self.seats
        played = perform(self.env.play(task), against(self.env, task, speak, seat, self.seed))
        if played.rewards is None:
            raise UserError(f"world {self.env.name!r} gives no reward for {task.problem!r}")
        return played.rewards[seat], played.outcome

    def _guess(self, task: Task, rng: Random, ask: Ask, replies: Sequence[str]) -> str:
        return self.guess(task, replies, rng)


def lines(found: Audit) -> list[str]:
    """The verdict and what each cheat earns, as lines of text."""
    verdict = "GAMEABLE" if found.gameable else "no cheat pays"
    told = [f"{found.world}: {verdict} (n = {found.n} tasks; chance: {found.guesses})"]
    told += [_line(name, score) for name, score in found.honest.items()]
    for finding in found.findings:
        above = finding.above
        line = _line(finding.cheat, finding.earns)
        line += f"  over {finding.bar} {above.mean:+.3f} [{above.low:+.3f}, {above.high:+.3f}]"
        if finding.gameable:
            line += f"  GAMEABLE by {finding.example[:SHOWN]!r}{'…' * (len(finding.example) > SHOWN)}"
        told.append(f"{line}; it changes the task's data" if finding.wrote else line)
    return told


def _line(name: str, score: Estimate) -> str:
    return f"  {name:<21} {score.mean:6.3f} [{score.low:6.3f}, {score.high:6.3f}]"
