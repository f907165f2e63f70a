"""likelihood: log-probabilities of given tokens, without ever holding all tokens × vocabulary (as in 2411.09009).

Logits are made for as many tokens at a time as stay in the cache. They are kept for the backward pass where they are few,
else made again.
Shapes: N tokens, C of a chunk, D width, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

from nanoschool.core.linear import compute_type, linear

LOGITS = 2**20  # of a chunk
KEPT = 2**24  # logits of all chunks, at most
FEWEST = 64  # tokens of a chunk, whatever the vocabulary


def log_likelihood(x_ND: Tensor, head_VD: Tensor, tokens_N: Tensor, temperatures_N: Tensor) -> Tensor:
    """log softmax(x W^T / τ) at the tokens, (N,) in float32; products in autocast's type, where that is on."""
    dtype = compute_type(x_ND)
    return _Chunked.apply(x_ND.to(dtype), head_VD.to(dtype), tokens_N, temperatures_N)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, head_VD: Tensor, tokens_N: Tensor, temperatures_N: Tensor) -> Tensor:
        given = x_ND, tokens_N, temperatures_N
        ctx.size, logprobs, normalisers, kept = max(FEWEST, LOGITS // len(head_VD)), [], [], []
        with torch.autocast(x_ND.device.type, enabled=False):
            for x_CD, tokens_C, temperatures_C in zip(*(each.split(ctx.size) for each in given), strict=True):
                raw_CV = linear(x_CD, head_VD)
                logits_CV = raw_CV.float() / temperatures_C[:, None]
                normalisers.append(logits_CV.logsumexp(-1))
                logprobs.append(logits_CV.gather(1, tokens_C[:, None])[:, 0] - normalisers[-1])
                if len(x_ND) * len(head_VD) <= KEPT:
                    kept.append(raw_CV)
        ctx.save_for_backward(*given, head_VD, *normalisers, *kept)
        return torch.cat(logprobs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        *given, head_VD = ctx.saved_tensors[:4]
        chunks = list(zip(*(each.split(ctx.size) for each in (*given, *gradients)), strict=True))
        normalisers, kept = ctx.saved_tensors[4 : 4 + len(chunks)], ctx.saved_tensors[4 + len(chunks) :]
        dx, dhead_VD = [], torch.zeros_like(head_VD, dtype=torch.float32)
        for i, (x_CD, tokens_C, temperatures_C, g_C) in enumerate(chunks):
            raw_CV = kept[i] if kept else linear(x_CD, head_VD)
            p_CV = (raw_CV.float() / temperatures_C[:, None] - normalisers[i][:, None]).exp_()
            scale_C1 = (g_C / temperatures_C)[:, None]
            d_CV = p_CV.mul_(-scale_C1).scatter_add_(1, tokens_C[:, None], scale_C1).to(x_CD.dtype)
            dx.append(linear(d_CV, head_VD.T))
            if ctx.needs_input_grad[1]:
                dhead_VD += linear(d_CV.T, x_CD.T)
        return torch.cat(dx), dhead_VD.to(head_VD.dtype) if ctx.needs_input_grad[1] else None, None, None
