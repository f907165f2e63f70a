"""learned: how much of what a world keeps secret a policy has learned: the yardstick that all signals share.

L = Σ over secrets of log2(options) + log2 p(truth), p among the options alone, asked closed-book, with the policy's own
notes in the prompt: 0 for one who holds all options equally likely, the secrets' whole entropy for one who is certain and
right. Below 0, where a policy is certain and wrong, it counts as 0.
"""

import math
from collections.abc import Sequence

import torch

from nanoschool.core.batch import Batch
from nanoschool.core.chat import render
from nanoschool.core.policy import Policy
from nanoschool.types import HasSecrets, Message, Secret, Trajectory, UserError


def learned_bits(policy: Policy, world: HasSecrets) -> dict[str, float]:
    """{"bits": L, "known": the share of secrets whose likeliest option is true}; a secret asked in several ways is the
    mean of them. Raises UserError where an option is no single token."""
    secrets = world.secrets()
    rows = [_row(policy, secret) for secret in secrets]
    logprobs_NV = policy.whole(Batch.of(rows)).cpu()
    bits: dict[str, list[float]] = {}
    known: dict[str, list[bool]] = {}
    for secret, logprobs_V in zip(secrets, logprobs_NV, strict=True):
        options = torch.log_softmax(logprobs_V[_tokens(policy, secret.options)].double(), dim=0)
        about = secret.about or secret.ask
        truth = float(options[secret.truth]) / math.log(2)
        bits.setdefault(about, []).append(math.log2(len(secret.options)) + truth)
        known.setdefault(about, []).append(int(options.argmax()) == secret.truth)
    total = sum(sum(some) / len(some) for some in bits.values())
    right = sum(sum(some) / len(some) for some in known.values()) / len(known)
    return {"bits": max(0.0, total), "known": right}


def _row(policy: Policy, secret: Secret) -> Trajectory:
    """The question, the beginning of the reply, and any one option, which is masked: what comes there is looked at."""
    system = [Message("system", policy.prompt)] if policy.prompt else []
    tokens, _ = render(policy.tokenizer, [*system, Message("user", secret.ask)], generate=True)
    tokens += [*policy.tokenizer.encode(secret.begun), _tokens(policy, secret.options)[0]]
    zeros = [0.0] * len(tokens)
    return Trajectory(tokens, [False] * (len(tokens) - 1) + [True], zeros, zeros)


def _tokens(policy: Policy, options: Sequence[str]) -> list[int]:
    pieces = [policy.tokenizer.encode(option) for option in options]
    split = [option for option, piece in zip(options, pieces, strict=True) if len(piece) != 1]
    if split:
        raise UserError(
            f"options {split[:5]} of a secret are no single tokens of this tokenizer; raise model.vocab"
        )
    return [piece[0] for piece in pieces]
