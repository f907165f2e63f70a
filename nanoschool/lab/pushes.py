"""pushes: how hard a method's own step would push each token, read off its own loss, with the weights left as they are.

For a loss of the tokens' log-probabilities the push of token t is −N ∂L/∂log π(y_t): what multiplies ∇log π(y_t) in the
step, times the step's N tokens, so that −Σ w log π / N pushes by w. For a loss of whole distributions it is the advantage
whose policy gradient is the loss's gradient, in expectation over the token: −N (g(y_t) / π(y_t) − Σ_v g(v)) with
g(v) = ∂L/∂log π(v). Nothing of any method is written again here, so a method of the user's is seen as well. The minibatches
of a step are taken as one.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nanoschool.core.batch import Batch, weighted_nll
from nanoschool.core.policy import Loss, Policy
from nanoschool.types import Trajectory

NUMBER = "attempt"  # the per-token array that says which attempt a row of a batch is


class Watched(Policy):
    """A policy whose `fit` notes the pushes, one number a token by attempt, in place of a step.

    Batches of others than `numbered` attempts are let by, and counted.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy.model, policy.tokenizer, policy.ledger, policy.micro_tokens)
        self.prompt = policy.prompt
        self.pushes: dict[int, list[float]] = {}
        self.others = 0

    def fit(
        self,
        data: Batch | Sequence[Trajectory],
        loss: Loss = weighted_nll,
        *,
        scale: float = 1.0,
        epochs: int = 1,
        minibatches: int = 1,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        whole: bool = False,
    ) -> dict[str, float]:
        batch = data if isinstance(data, Batch) else Batch.of(data)
        totals = batch.totals()
        self.others += NUMBER not in batch.extra
        for micro in batch.micro(self.micro_tokens):
            seen = (self.whole(micro) if whole else self.logprobs(micro)).requires_grad_()
            micro = micro.to(self.device)
            objective = loss(
                seen, micro, totals
            )  # methods watch their own loss, so it is asked of others too
            if NUMBER not in micro.extra:
                continue
            (slope,) = torch.autograd.grad(objective, seen)
            push_BT = -totals.tokens * (said(slope, seen.detach(), micro) if whole else slope)
            numbers = micro.extra[NUMBER][:, 0].long().tolist()
            for number, row, length in zip(numbers, push_BT.tolist(), micro.lengths.tolist(), strict=True):
                self.pushes[number] = row[:length]
        return {"loss": 0.0, "gradient_norm": 0.0}


def said(slope_NV: Tensor, logprobs_NV: Tensor, batch: Batch) -> Tensor:
    """g(y) / π(y) − Σ_v g(v) at the token that was said, (B, T); 0 where nothing was learned."""
    own_N1 = batch.tokens[batch.mask][:, None]
    at_own_N = slope_NV.gather(1, own_N1)[:, 0] * (-logprobs_NV.gather(1, own_N1)[:, 0]).exp()
    blank_BT = torch.zeros(batch.tokens.shape, dtype=slope_NV.dtype, device=slope_NV.device)
    return blank_BT.index_put(torch.nonzero(batch.mask, as_tuple=True), at_own_N - slope_NV.sum(1))


def numbered(attempts: Sequence[Trajectory]) -> list[Trajectory]:
    """Copies that a method may write its credit into; each knows its number."""
    blank = [[0.0] * len(t.tokens) for t in attempts]
    return [
        replace(t, weights=zeros, extra=t.extra | {NUMBER: [float(i)] * len(zeros)})
        for i, (t, zeros) in enumerate(zip(attempts, blank, strict=True))
    ]
