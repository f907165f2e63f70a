"""block_diagonal: causal attention inside each row, where rows of different lengths lie end to end (2107.02027).

Rows of like length are attended to in one call, padded to the longest of them: causal attention does not look at what comes
after. On a CPU torch's fused kernel is slow (in bfloat16 its backward pass takes as long as all matrix products of the
layer), so there it is written as matrix products over blocks of queries, each against the keys up to its own end. The
kernel in float32 is left for few rows in bfloat16, and for long ones, whose probabilities are too many to keep.
Shapes: B rows, S tokens of all rows, P positions of all rows with their padding, T positions of a row, H query heads,
G key-value heads, R = H / G, K head width.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from nanoschool.core import passes
from nanoschool.core.model import Attend, causal

ALIKE = 16  # tokens by which lengths may differ in one call, on a CPU; elsewhere calls are dear and padding is cheap
FEW = 4  # rows of a call below which products in bfloat16, prepared for every shape anew, cost more than they save
LONG = 512  # tokens of a row above which the probabilities are not kept
BLOCK = 96  # queries: small enough for a row's scores to stay in the cache


def block_diagonal(lengths: Sequence[int], device: torch.device, alike: int = 0) -> Attend:
    """Attention of rows of these lengths, end to end in one: a token sees its own row, up to itself.

    Lengths of the same multiple of `alike` are attended to in one call; 0: what is fastest on the device.
    """
    alike = alike or (ALIKE if device.type == "cpu" else max(lengths))
    together: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        together.setdefault((length - 1) // alike, []).append(row)
    calls = [(len(rows), max(lengths[row] for row in rows)) for rows in together.values()]
    sizes = [rows * longest for rows, longest in calls]
    at_S = _places(lengths, together.values(), calls)
    as_it_is = at_S.equal(torch.arange(sum(sizes)))
    at_S = at_S.to(device)

    def attend(layer: int, q_1HSK: Tensor, k_1GSK: Tensor, v_1GSK: Tensor) -> Tensor:
        q_PHK, k_PGK, v_PGK = (x[0].transpose(0, 1) for x in (q_1HSK, k_1GSK, v_1GSK))
        if not as_it_is:
            q_PHK, k_PGK, v_PGK = (_Spread.apply(x, at_S, sum(sizes)) for x in (q_PHK, k_PGK, v_PGK))
        parts = []
        for (rows, T), *qkv in zip(calls, *(x.split(sizes) for x in (q_PHK, k_PGK, v_PGK)), strict=True):
            q_BHTK, k_BGTK, v_BGTK = (x.unflatten(0, (rows, T)).transpose(1, 2) for x in qkv)
            parts.append(_attend(layer, q_BHTK, k_BGTK, v_BGTK).transpose(1, 2).flatten(0, 1))
        out_PHK = torch.cat(parts)
        out_SHK = out_PHK if as_it_is else _Gathered.apply(out_PHK, at_S)
        return out_SHK.transpose(0, 1)[None]

    return attend


def _attend(layer: int, q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor) -> Tensor:
    (B, _, T, _), dtype = v_BGTK.shape, v_BGTK.dtype
    if v_BGTK.device.type != "cpu":
        return causal(layer, q_BHTK, k_BGTK, v_BGTK)
    if T <= LONG and (B >= FEW or dtype != torch.bfloat16):
        return _Blocked.apply(q_BHTK, k_BGTK, v_BGTK)
    with torch.autocast("cpu", enabled=False):
        wide = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (q_BHTK, k_BGTK, v_BGTK))
        return causal(layer, *wide).to(dtype)


def _places(
    lengths: Sequence[int], together: Iterable[Sequence[int]], calls: Sequence[tuple[int, int]]
) -> Tensor:
    """Where each token stands once the rows of a call stand together, padded to their longest, (S,)."""
    starts, first = [0] * len(lengths), 0
    for rows, (_, longest) in zip(together, calls, strict=True):
        for row in rows:
            starts[row] = first
            first += longest
    lengths_B = torch.tensor(lengths)
    moved_B = torch.tensor(starts) - (lengths_B.cumsum(0) - lengths_B)
    return torch.arange(int(lengths_B.sum())) + moved_B.repeat_interleave(lengths_B)


class _Spread(torch.autograd.Function):
    """Tokens to their places, zeros elsewhere, (S, …) -> (P, …). Torch's own gradients of this and of its inverse add up
    what stands at one place, one by one; here nothing stands twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, at_S: Tensor, places: int) -> Tensor:
        ctx.save_for_backward(at_S)
        return x.new_zeros(places, *x.shape[1:]).index_copy_(0, at_S, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].index_select(0, *ctx.saved_tensors), None, None


class _Gathered(torch.autograd.Function):
    """The inverse, (P, …) -> (S, …)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, at_S: Tensor) -> Tensor:
        ctx.save_for_backward(at_S)
        ctx.places = len(x)
        return x.index_select(0, at_S)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (g,) = gradients
        return g.new_zeros(ctx.places, *g.shape[1:]).index_copy_(0, *ctx.saved_tensors, g), None


class _Blocked(torch.autograd.Function):
    """Products in the type of v, gradients summed in float32 at least; keeps the probabilities, T (T + BLOCK) / 2 a head."""

    @staticmethod
    def forward(ctx: Any, q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor) -> Tensor:
        (B, H, T, K), G, dtype = q_BHTK.shape, k_BGTK.shape[1], v_BGTK.dtype
        q_BGRTK = (q_BHTK * K**-0.5).to(dtype).view(B, G, H // G, T, K)
        k_NTK, v_NTK = (x.to(dtype).reshape(B * G, T, K) for x in (k_BGTK, v_BGTK))
        out_BTHK, kept = torch.empty(B, T, H, K, dtype=dtype), []
        for start, end in _blocks(T):
            q_NSK = q_BGRTK[:, :, :, start:end].reshape(B * G, -1, K)
            scores_NSE = torch.bmm(q_NSK, k_NTK[:, :end].mT).view(B * H, -1, end)
            p_NSE = _causal_softmax(scores_NSE).view(B * G, -1, end)
            kept.append(p_NSE)
            out_BTHK[:, start:end] = torch.bmm(p_NSE, v_NTK[:, :end]).view(B, H, -1, K).transpose(1, 2)
        ctx.save_for_backward(q_BGRTK, k_NTK, v_NTK, *kept)
        ctx.dtypes = q_BHTK.dtype, k_BGTK.dtype
        return out_BTHK.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q_BGRTK, k_NTK, v_NTK, *kept = ctx.saved_tensors
        (B, G, R, T, K), dtype = q_BGRTK.shape, v_NTK.dtype
        g_BGRTK = gradients[0].to(dtype).unflatten(1, (G, R))
        dq_BTHK = torch.empty(B, T, G * R, K, dtype=ctx.dtypes[0])
        dk_NTK, dv_NTK = torch.zeros(2, B * G, T, K, dtype=torch.promote_types(dtype, torch.float32))
        for (start, end), p_NSE in zip(_blocks(T), kept, strict=True):
            q_NSK, g_NSK = (x[:, :, :, start:end].reshape(B * G, -1, K) for x in (q_BGRTK, g_BGRTK))
            dv_NTK[:, :end] += torch.bmm(p_NSE.mT, g_NSK)
            dp_NSE = torch.bmm(g_NSK, v_NTK[:, :end].mT)
            ds_NSE = torch.ops.aten._softmax_backward_data(dp_NSE, p_NSE, -1, dtype)
            dq_NSK = torch.bmm(ds_NSE, k_NTK[:, :end]) * K**-0.5
            dq_BTHK[:, start:end] = dq_NSK.view(B, G * R, -1, K).transpose(1, 2)
            dk_NTK[:, :end] += torch.bmm(ds_NSE.mT, q_NSK)
        dk_BGTK, dv_BGTK = (x.view(B, G, T, K) for x in (dk_NTK, dv_NTK))
        return dq_BTHK.transpose(1, 2), dk_BGTK.to(ctx.dtypes[1]), dv_BGTK.to(dtype)


def _causal_softmax(scores_NSE: Tensor) -> Tensor:
    """The last query sees all keys, the one before all but the last; what was given is written over."""
    if passes.fit(scores_NSE):
        return passes.causal_softmax_(scores_NSE)
    _, S, E = scores_NSE.shape
    later_SE = torch.ones(S, E, dtype=torch.bool).triu_(E - S + 1)
    return scores_NSE.masked_fill_(later_SE, float("-inf")).softmax(-1)


def _blocks(T: int) -> list[tuple[int, int]]:
    return [(start, min(start + BLOCK, T)) for start in range(0, T, BLOCK)]
