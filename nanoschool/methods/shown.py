"""shown: a fit that bills what the learner is shown: −log2 p, under itself at the time, of tokens that it did not sample."""

from collections.abc import Sequence
from math import log
from typing import Any

import torch
from torch import Tensor

from nanoschool.core.batch import Batch, Totals, weighted_nll
from nanoschool.core.policy import Loss, Policy
from nanoschool.types import Trajectory

NEWS = "news"  # the per-token array that is 0 where a text follows from what was billed before


def fit(
    policy: Policy, data: Batch | Sequence[Trajectory], loss: Loss = weighted_nll, **how: Any
) -> dict[str, float]:
    """`policy.fit`; the bits come from its own pass, and are billed each time that something is shown."""
    nats = torch.zeros((), dtype=torch.float64, device=policy.device)

    def counted(logprobs_BT: Tensor, batch: Batch, totals: Totals) -> Tensor:
        shown_BT = batch.mask & (batch.logprobs == 0)  # what was sampled for sure is no news either
        if NEWS in batch.extra:
            shown_BT &= batch.extra[NEWS] > 0
        nats.sub_(logprobs_BT.detach()[shown_BT].sum(dtype=torch.float64))
        return loss(logprobs_BT, batch, totals)

    metrics = policy.fit(data, counted, **how)
    policy.ledger.charge(bits=float(nats) / log(2))
    return metrics
