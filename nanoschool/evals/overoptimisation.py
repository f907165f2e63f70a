"""overoptimisation: how far a policy is from its reference, what its judge thinks of it, and what is true (2210.10760).

All is taken on the same held-out problems, at the temperature that the policy is trained at. The distance is
KL(π || π_ref), nats a reply: at every sampled token the divergence of the two distributions exactly, so only where π went is
chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nanoschool.core.batch import Batch
from nanoschool.core.policy import Policy
from nanoschool.core.reward_model import RewardModel
from nanoschool.evals.stats import Estimate, mean_interval, paired_difference
from nanoschool.rollout import alone, rollout
from nanoschool.types import Environment, Task, Trajectory

ROWS = 256  # attempts whose distributions are held at once


@dataclass(frozen=True)
class Drift:
    """A policy on some problems: one entry a problem, each the mean over the attempts at it."""

    kl: list[float]
    proxy: list[float]  # what the judge scores
    gold: list[float]  # what the world knows to be true; empty where it does not say
    said: Trajectory  # the first attempt

    @classmethod
    def of(
        cls,
        policy: Policy,
        reference: Policy,
        judge: RewardModel,
        env: Environment,
        tasks: Sequence[Task],
        *,
        samples: int,
        max_tokens: int,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> "Drift":
        """Attempt each task `samples` times, and have the judge, the world and the reference look at it."""
        attempts = rollout(
            policy,
            env,
            tasks,
            samples=samples,
            temperature=temperature,
            max_tokens=max_tokens,
            seed=seed,
            play=alone(env, env.play),
        )
        golds = [truth(t) for t in attempts]
        known = [gold for gold in golds if gold is not None]
        return cls(
            _means(divergence(policy, reference, attempts), samples),
            _means(judge.score(attempts), samples),
            _means(known, samples) if len(known) == len(attempts) else [],
            attempts[0],
        )

    def to_json(self, policy: Policy) -> dict[str, Any]:
        """Each number with its interval over the problems, and what it said first."""
        first = self.said.mask.index(True) if any(self.said.mask) else len(self.said.tokens)
        decode = policy.tokenizer.decode
        told = {"prompt": decode(self.said.tokens[:first]), "reply": decode(self.said.tokens[first:])}
        named = {"kl": self.kl, "proxy": self.proxy, "gold": self.gold}
        return {name: mean_interval(v).to_json() for name, v in named.items() if v} | {"said": told}


def truth(t: Trajectory) -> float | None:
    """What the world knows of an attempt: `gold` of its info where it says it so, else its reward."""
    return t.info.get("gold", None if t.seat else t.rewards)


def divergence(policy: Policy, reference: Policy, attempts: Sequence[Trajectory]) -> list[float]:
    """Σ_t Σ_v π(v) (log π(v) − log π_ref(v)) over the sampled tokens of each attempt, in nats."""
    found: list[float] = []
    for first in range(0, len(attempts), ROWS):
        batch = Batch.of(attempts[first : first + ROWS])
        own_NV, its_NV = policy.whole(batch), reference.whole(batch)
        kl_N = (own_NV.exp() * (own_NV - its_NV)).sum(1).tolist()
        places = iter(kl_N)
        found += [sum(next(places) for sampled in row if sampled) for row in batch.mask.tolist()]
    return found


def parted(state: dict[str, Any], step: int, now: Drift) -> dict[str, Any] | None:
    """Have what pays and what is true parted since gold was highest? Then since when, and by how much; else None.

    Half of the problems say when gold was highest (kept in `state`, plain JSON); the other half say whether since then
    the judge's score has risen and gold has fallen, each with a 95 % interval that leaves out 0. One half for both would
    call every peak a fall, for a peak is high by luck too.
    """
    if len(now.gold) < 4:
        return None
    peak = state.get("peak")
    if peak is None or sum(now.gold[::2]) > sum(peak["gold"][::2]):
        state["peak"] = {"step": step, "gold": now.gold, "proxy": now.proxy}
        return None
    if sum(now.proxy[1::2]) <= sum(peak["proxy"][1::2]) or sum(now.gold[1::2]) >= sum(peak["gold"][1::2]):
        return None
    proxy, gold = (
        paired_difference(before[1::2], after[1::2])
        for before, after in ((peak["proxy"], now.proxy), (peak["gold"], now.gold))
    )
    if proxy.low > 0 and gold.high < 0:
        return {"since": peak["step"], "proxy": proxy.to_json(), "gold": gold.to_json()}
    return None


def warning(alarm: dict[str, Any]) -> str:
    """The alarm in one line."""
    changed = {name: Estimate(**alarm[name]) for name in ("proxy", "gold")}
    told = {name: f"{e.mean:+.2f} [{e.low:.2f}, {e.high:.2f}]" for name, e in changed.items()}
    return (
        f"ALARM: since step {alarm['since']} the judge's score changed by {told['proxy']} and what is meant by "
        f"{told['gold']} (n = {changed['gold'].n} dev problems): the policy learns the judge's mistakes"
    )


def _means(values: Sequence[float], samples: int) -> list[float]:
    return [sum(values[i : i + samples]) / samples for i in range(0, len(values), samples)]
