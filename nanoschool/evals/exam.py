"""exam: everything that is measured of a stage, on the test split; read once, never chosen by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nanoschool.core.policy import Policy
from nanoschool.evals.choices import choices, did, right_alone
from nanoschool.evals.measure import (
    accuracy,
    answers,
    pass_at,
    reading_gate,
    rewards,
    sampled,
    transcript,
    ways,
)
from nanoschool.evals.stats import Estimate, paired_difference
from nanoschool.types import Environment, HasGate, HasUnknowns

SHOWN = 3  # transcripts kept of each world


@dataclass(frozen=True)
class Exam:
    """What is asked. Each world is put in the chat format and in every answer format of its text."""

    worlds: Mapping[str, Environment]
    problems: int  # of each world, greedy
    attempts: int  # at each of `pass_problems`, temperature 1
    pass_problems: int
    practised: Sequence[str]  # worlds that pass@k is measured on
    converses: (
        bool  # one that does is asked in the chat format, one that has only read in those of its text too
    )
    max_tokens: int = 96  # of a reply
    gate_books: int = 1000
    seed: int = 0

    def sit(self, policy: Policy) -> tuple[dict, list[dict]]:
        """(results, transcripts). Results hold every problem's reward and act, so that stages can be paired by problem."""
        results: dict = {
            "worlds": {},
            "passk": {},
            "passk_format": {},
            "rewards": {},
            "knows": {},
            "acts": {},
        }
        samples = []
        for name, env in self.worlds.items():
            tasks = env.tasks("test", self.problems, seed=self.seed)
            if isinstance(env, HasUnknowns):
                results["knows"][name] = right_alone(policy, env, tasks, self.seed)
            # a model that converses is asked in the formats of the text only where a gain is to be held against them
            for way in ["chat"] if self.converses and name not in self.practised else ways(env):
                trajectories = answers(policy, env, tasks, way, max_tokens=self.max_tokens, seed=self.seed)
                results["worlds"].setdefault(name, {})[way] = accuracy(trajectories)
                results["rewards"].setdefault(name, {})[way] = rewards(trajectories)
                if isinstance(env, HasUnknowns):
                    results["acts"].setdefault(name, {})[way] = did(trajectories)
                    results["worlds"][name][way] |= choices(env, tasks, trajectories, results["knows"][name])
                if way == "chat" or not self.converses:
                    samples += [
                        {"world": name, "way": way, **transcript(policy, t)} for t in trajectories[:SHOWN]
                    ]
            if name in self.practised:
                way = "chat" if self.converses else best_way(results["worlds"][name])
                some = tasks[: self.pass_problems]
                groups = sampled(policy, env, some, way, self.attempts, self.max_tokens, self.seed)
                results["passk"][name] = pass_at(groups)
                results["passk_format"][name] = way
            if isinstance(env, HasGate):
                results["gate"] = reading_gate(policy, env, self.gate_books, self.seed)
        return results, samples


def best_way(scores: Mapping[str, Mapping]) -> str:
    return max(scores, key=lambda way: scores[way]["mean"])


def gain(exams: Mapping[str, Mapping], before: str, after: str, world: str) -> dict:
    """What a stage added to `world` in the chat format, by problem; and whether that is more than any earlier stage
    could do in any of its answer formats."""
    was, now = exams[before]["rewards"][world]["chat"], exams[after]["rewards"][world]["chat"]
    earlier = list(exams)[: list(exams).index(after)]
    options = [(stage, way) for stage in earlier for way in exams[stage]["rewards"][world]]
    stage, way = max(options, key=lambda option: exams[option[0]]["worlds"][world][option[1]]["mean"])
    difference = paired_difference(was, now)
    beyond = paired_difference(exams[stage]["rewards"][world][way], now)
    return {
        "world": world,
        "from": before,
        "to": after,
        "n": len(now),
        "before": sum(was) / len(was),
        "after": sum(now) / len(now),
        "difference": difference.to_json(),
        "best_before": {"stage": stage, "format": way, **exams[stage]["worlds"][world][way]},
        "beyond": beyond.to_json(),
        "verdict": verdict(difference, beyond),
    }


def verdict(difference: Estimate, beyond: Estimate) -> str:
    """What the 95 % intervals allow to be said of a stage: of its difference to the stage before, and to the best there
    was before. Elicitation is a gain that brings out what an earlier stage could do in some answer format."""
    if beyond.low > 0:
        return "beyond the base"
    if difference.low > 0:
        return "elicitation"
    return "worse" if difference.high < 0 else "no gain shown"
