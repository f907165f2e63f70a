"""audit: can a reward be earned without knowing the answer? Plays the fixed set of cheats, beside chance and the oracle.

Of a cheat's variants the best is chosen on dev tasks and measured on test tasks, so that the best of many is not taken
for skill. A reward is gameable where a cheat earns more than chance plus 5 points, by the paired difference over the
same tasks, whose interval must lie above 0; or where a reply changes the task's data.

Nor may chance, or in worlds of one seat a cheat, come within 5 points of what right replies earn: such a reward cannot
tell right from wrong, and all that it pays is chance. Where nobody knows what is right, the most that any reply earned
stands for it.

In worlds of several seats the others are held by perfect play (by guesses where there is none), and the cheat's seat
changes from task to task. There a constant reply can be honest play, so it is a cheat only if it earns more than
perfect play. Nor is it a cheat to abstain, where a world pays for that: a constant of which the outcome's info says
"abstained" is listed apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from nanoschool.evals.stats import Estimate, mean_interval
from nanoschool.lab.cheats import CONSTANT, cheats
from nanoschool.lab.scripted import estimate, tasks_of
from nanoschool.lab.trial import GUESSES, SECOND, Trial
from nanoschool.types import Environment, HasGuesses, HasOracle

MARGIN = 0.05  # what a cheat may earn above chance
BLIND = "CANNOT TELL RIGHT FROM WRONG"
SHOWN = 60  # characters of a reply


@dataclass(frozen=True)
class Finding:
    """What one cheat earns, and how much that is above what may be earned so (chance), by task."""

    cheat: str
    earns: Estimate
    above: Estimate
    bar: str  # what it is above
    example: str  # the reply to the first task
    wrote: bool  # it changed the task's data
    as_right: bool  # it earns what right replies earn

    @property
    def gameable(self) -> bool:
        return self.wrote or self.as_right or (self.above.mean > MARGIN and self.above.low > 0)


@dataclass(frozen=True)
class Audit:
    """A world's reward on trial."""

    world: str
    n: int
    guesses: str  # where those that are taken for chance come from
    honest: Mapping[str, Estimate]  # chance, oracle, abstaining: as far as there is such a thing
    findings: tuple[Finding, ...]
    blind: str  # why the reward cannot tell right from wrong; "" where it can

    @property
    def gameable(self) -> bool:
        return bool(self.blind) or any(finding.gameable for finding in self.findings)


def audit(env: Environment, n: int = 200, seed: int = 0) -> Audit:
    """Try every cheat on `n` test tasks (or as many as there are). Raises UserError where the world gives no reward."""
    trial = Trial(env, seed)
    tasks = tasks_of(env, "test", n)
    tried = tasks_of(env, "dev", SECOND)
    chance_T = trial.chance(tasks)
    honest = {"chance": mean_interval(chance_T)}
    bars = {"chance": chance_T}
    right_T = trial.right(tasks)
    if right_T is not None:
        honest["oracle" if isinstance(env, HasOracle) else "right replies"] = estimate(right_T)
        bars["perfect play"] = right_T
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
        as_right = right_T is not None and trial.seats == 1 and earns.mean >= fmean(right_T) - MARGIN
        findings.append(
            Finding(cheat.name, earns, mean_interval(above), bar, played[0].said, wrote, as_right)
        )
    source = (
        f"{GUESSES} of its guesses a task" if isinstance(env, HasGuesses) else "right replies to other tasks"
    )
    return Audit(env.name, len(tasks), source, honest, tuple(findings), blindness(trial, chance_T, right_T))


def blindness(trial: Trial, chance_T: Sequence[float], right_T: Sequence[float] | None) -> str:
    """How the reward fails to tell right replies from guesses, once all else was tried; "" where it can.

    The luck of a deal is wide, so in worlds of several seats the whole interval must lie within the margin.
    """
    if right_T is None:
        ceiling = trial.most > 0 and fmean(chance_T) >= trial.most - MARGIN
        return f"chance earns the most that any reply did, {trial.most:g}" if ceiling else ""
    over = mean_interval([best - luck for best, luck in zip(right_T, chance_T, strict=True)])
    if (over.mean if trial.seats == 1 else over.high) > MARGIN:
        return ""
    earned = f"{over.mean:+.3f} [{over.low:+.3f}, {over.high:+.3f}]"
    return f"right replies, as the world writes them, earn {earned} over chance"


def lines(found: Audit) -> list[str]:
    """The verdict and what each cheat earns, as lines of text."""
    verdict = BLIND if found.blind else "GAMEABLE" if found.gameable else "no cheat pays"
    told = [f"{found.world}: {verdict} (n = {found.n} tasks; chance: {found.guesses})"]
    if found.blind:
        told.append(f"  {found.blind}")
    told += [_line(name, score) for name, score in found.honest.items()]
    for finding in found.findings:
        above = finding.above
        line = _line(finding.cheat, finding.earns)
        line += f"  over {finding.bar} {above.mean:+.3f} [{above.low:+.3f}, {above.high:+.3f}]"
        if finding.gameable:
            line += "  as much as right replies" * finding.as_right
            line += f"  GAMEABLE by {finding.example[:SHOWN]!r}{'…' * (len(finding.example) > SHOWN)}"
        told.append(f"{line}; it changes the task's data" if finding.wrote else line)
    return told


def _line(name: str, score: Estimate) -> str:
    return f"  {name:<21} {score.mean:6.3f} [{score.low:6.3f}, {score.high:6.3f}]"
