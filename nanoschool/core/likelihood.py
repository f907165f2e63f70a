"""likelihood: log-probabilities of given tokens, without ever holding all tokens × vocabulary (as in 2411.09009).

Logits are made for as many tokens at a time as stay in the cache, on a GPU as keep it busy. They are kept for the backward
pass where they are few, else made again.
Shapes: N tokens, C of a chunk, D width, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

from nanoschool.core.graph import graph
from nanoschool.core.linear import compute_type, linear

LOGITS = {"cpu": 2**20, "cuda": 2**27}  # of a chunk
KEPT = 2**24  # logits of all chunks, at most
FEWEST = 64  # tokens of a chunk, whatever the vocabulary


def log_likelihood(
    x_ND: Tensor, head_VD: Tensor, tokens_N: Tensor, temperatures_N: Tensor, compiled: bool = False
) -> Tensor:
    """log softmax(x W^T / τ) at the tokens, (N,) in float32; products in autocast's type, where that is on."""
    dtype = compute_type(x_ND)
    return _Chunked.apply(x_ND.to(dtype), head_VD.to(dtype), tokens_N, temperatures_N, compiled)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, head_VD: Tensor, tokens_N: Tensor, temperatures_N: Tensor, compiled: bool
    ) -> Tensor:
        given, kind = (x_ND, tokens_N, temperatures_N), x_ND.device.type
        ctx.size, ctx.compiled = max(FEWEST, LOGITS.get(kind, LOGITS["cpu"]) // len(head_VD)), compiled
        logprobs, normalisers, kept = [], [], []
        with torch.autocast(kind, enabled=False):
            for x_CD, tokens_C, temperatures_C in zip(*(each.split(ctx.size) for each in given), strict=True):
                raw_CV = linear(x_CD, head_VD)
                logprobs_C, normalisers_C = graph(scored, compiled, 0)(raw_CV, tokens_C, temperatures_C)
                logprobs.append(logprobs_C)
                normalisers.append(normalisers_C)
                if len(x_ND) * len(head_VD) <= KEPT:
                    kept.append(raw_CV)
        ctx.save_for_backward(*given, head_VD, *normalisers, *kept)
        return torch.cat(logprobs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        *given, head_VD = ctx.saved_tensors[:4]
        chunks = list(zip(*(each.split(ctx.size) for each in (*given, *gradients)), strict=True))
        normalisers, kept = ctx.saved_tensors[4 : 4 + len(chunks)], ctx.saved_tensors[4 + len(chunks) :]
        dx, dhead_VD = [], torch.zeros_like(head_VD, dtype=torch.float32)
        for i, (x_CD, tokens_C, temperatures_C, g_C) in enumerate(chunks):
            raw_CV = kept[i] if kept else linear(x_CD, head_VD)
            d_CV = graph(slope, ctx.compiled, 0)(raw_CV, tokens_C, temperatures_C, normalisers[i], g_C)
            dx.append(linear(d_CV, head_VD.T))
            if ctx.needs_input_grad[1]:
                dhead_VD += linear(d_CV.T, x_CD.T)
        dhead = dhead_VD.to(head_VD.dtype) if ctx.needs_input_grad[1] else None
        return torch.cat(dx), dhead, None, None, None


def scored(raw_CV: Tensor, tokens_C: Tensor, temperatures_C: Tensor) -> tuple[Tensor, Tensor]:
    """log softmax(raw / τ) at the tokens, and what it was normalised by, (C,) both."""
    logits_CV = raw_CV.float() / temperatures_C[:, None]
    normalisers_C = logits_CV.logsumexp(-1)
    return logits_CV.gather(1, tokens_C[:, None])[:, 0] - normalisers_C, normalisers_C


def slope(
    raw_CV: Tensor, tokens_C: Tensor, temperatures_C: Tensor, normalisers_C: Tensor, g_C: Tensor
) -> Tensor:
    """The gradient of `raw_CV`, in its type, where that of the log-probabilities is g_C."""
    p_CV = (raw_CV.float() / temperatures_C[:, None] - normalisers_C[:, None]).exp_()
    scale_C1 = (g_C / temperatures_C)[:, None]
    if torch.compiler.is_compiling():  # one loop where nothing is written to a place
        chosen_CV = torch.arange(raw_CV.shape[1], device=raw_CV.device) == tokens_C[:, None]
        return (scale_C1 * chosen_CV - p_CV * scale_C1).to(raw_CV.dtype)
    return p_CV.mul_(-scale_C1).scatter_add_(1, tokens_C[:, None], scale_C1).to(raw_CV.dtype)
