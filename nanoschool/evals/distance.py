"""distance: how far a policy has gone from where it started, KL(π‖π₀) in nats on what it says itself.

Taken over the whole vocabulary at every token that π sampled, Σ_v π log(π/π₀), in place of the sampled token's log-ratio:
the same mean with less noise. It predicts what is forgotten elsewhere (RL's Razor, https://arxiv.org/abs/2509.04259).
"""

from collections.abc import Sequence
from dataclasses import replace

from nanoschool.core.batch import Batch
from nanoschool.core.chat import render
from nanoschool.core.policy import Policy
from nanoschool.types import Message, Trajectory

ROWS = 16  # in one forward pass: two tables of (tokens, vocabulary) are in memory at once


def distance(policy: Policy, start: Policy, sampled: Sequence[Trajectory]) -> dict[str, float]:
    """KL(policy‖start) a token and a sequence, of `sampled`, which the policy said at temperature 1.

    What the policy has learned as notes stands in its prompt; the start reads the same without them.
    """
    total, tokens = 0.0, 0
    for first in range(0, len(sampled), ROWS):
        some = sampled[first : first + ROWS]
        logprobs_NV = policy.whole(Batch.of(some)).double()
        before_NV = start.whole(Batch.of([_heard_by(start, policy, t) for t in some])).double()
        total += float((logprobs_NV.exp() * (logprobs_NV - before_NV)).sum())
        tokens += len(logprobs_NV)
    return {"token": total / max(tokens, 1), "sequence": total / max(len(sampled), 1)}


def _heard_by(start: Policy, policy: Policy, t: Trajectory) -> Trajectory:
    """The trajectory as it stands under the start's notes in place of the policy's."""
    if start.prompt == policy.prompt:
        return t
    old, new = len(_notes(policy)), _notes(start)
    blank = [0.0] * len(new)
    return replace(
        t,
        tokens=[*new, *t.tokens[old:]],
        mask=[*([False] * len(new)), *t.mask[old:]],
        logprobs=[*blank, *t.logprobs[old:]],
        weights=[*blank, *t.weights[old:]],
        extra={},
    )


def _notes(policy: Policy) -> list[int]:
    return render(policy.tokenizer, [Message("system", policy.prompt)] if policy.prompt else [])[0]
