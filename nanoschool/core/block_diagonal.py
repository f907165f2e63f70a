"""block_diagonal: causal attention inside each row, where rows of different lengths lie end to end (2107.02027).

On a CPU torch's fused kernel is slow in bfloat16 (its backward pass takes as long as all matrix products of the layer), so
there it is written as matrix products over blocks of queries, each against the keys up to its own end; and where few rows
have a length in common it is the fused kernel in float32.
Shapes: B rows, S tokens of all rows, T tokens of a row, H query heads, G key-value heads, R = H / G, K head width.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from nanoschool.core.model import Attend, causal

FEW = 4  # rows of one length below which products in bfloat16, prepared for every length anew, cost more than they save
BLOCK = 96  # queries: small enough for a row's scores to stay in the cache


def block_diagonal(lengths: Sequence[int], device: torch.device) -> Attend:
    """Attention of rows of these lengths, end to end in one: a token sees its own row, up to itself.

    Rows of one length that stand side by side are attended to in one call, so sorted rows are the fastest. Where calls
    are dear and padding is cheap (not on a CPU), all rows are padded for one call.
    """
    if device.type != "cpu":
        return _padded(lengths, device)
    runs = [(length, len(list(same))) for length, same in groupby(lengths)]
    sizes = [length * rows for length, rows in runs]

    def attend(layer: int, q_1HSK: Tensor, k_1GSK: Tensor, v_1GSK: Tensor) -> Tensor:
        parts = []
        for (length, rows), *qkv in zip(
            runs, *(x.split(sizes, dim=2) for x in (q_1HSK, k_1GSK, v_1GSK)), strict=True
        ):
            q_BHTK, k_BGTK, v_BGTK = (x[0].unflatten(1, (rows, length)).transpose(0, 1) for x in qkv)
            if v_BGTK.dtype != torch.bfloat16:
                out_BHTK = causal(layer, q_BHTK, k_BGTK, v_BGTK)
            elif rows >= FEW:
                out_BHTK = _Blocked.apply(q_BHTK, k_BGTK, v_BGTK)
            else:
                with torch.autocast("cpu", enabled=False):
                    out_BHTK = causal(layer, q_BHTK.float(), k_BGTK.float(), v_BGTK.float()).bfloat16()
            parts.append(out_BHTK.transpose(1, 2).flatten(0, 1))
        return torch.cat(parts).transpose(0, 1)[None]

    return attend


def _padded(lengths: Sequence[int], device: torch.device) -> Attend:
    lengths_B = torch.tensor(lengths, device=device)
    steps_T = torch.arange(max(lengths), device=device)
    live_BT = steps_T < lengths_B[:, None]
    starts_B = lengths_B.cumsum(0) - lengths_B
    at_BT = starts_B[:, None] + steps_T.minimum(lengths_B[:, None] - 1)

    def attend(layer: int, q_1HSK: Tensor, k_1GSK: Tensor, v_1GSK: Tensor) -> Tensor:
        q_BHTK, k_BGTK, v_BGTK = (
            x[0].transpose(0, 1)[at_BT].transpose(1, 2) for x in (q_1HSK, k_1GSK, v_1GSK)
        )
        return causal(layer, q_BHTK, k_BGTK, v_BGTK).transpose(1, 2)[live_BT].transpose(0, 1)[None]

    return attend


class _Blocked(torch.autograd.Function):
    """Products in the type of v, sums of gradients in float32; keeps the probabilities, T (T + BLOCK) / 2 a head."""

    @staticmethod
    def forward(ctx: Any, q_BHTK: Tensor, k_BGTK: Tensor, v_BGTK: Tensor) -> Tensor:
        (B, H, T, K), G, dtype = q_BHTK.shape, k_BGTK.shape[1], v_BGTK.dtype
        q_BGRTK = (q_BHTK * K**-0.5).to(dtype).view(B, G, H // G, T, K)
        k_NTK, v_NTK = (x.to(dtype).reshape(B * G, T, K) for x in (k_BGTK, v_BGTK))
        out_BTHK, kept = torch.empty(B, T, H, K, dtype=dtype), []
        for start, end in _blocks(T):
            q_NSK = q_BGRTK[:, :, :, start:end].reshape(B * G, -1, K)
            scores_BHSE = torch.bmm(q_NSK, k_NTK[:, :end].mT).view(B, H, -1, end)
            later_SS = torch.ones(end - start, end - start, dtype=torch.bool).triu_(1)
            scores_BHSE[..., start:].masked_fill_(later_SS, float("-inf"))
            p_NSE = scores_BHSE.softmax(-1).view(B * G, -1, end)
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
        dk_NTK, dv_NTK = torch.zeros(2, B * G, T, K)
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


def _blocks(T: int) -> list[tuple[int, int]]:
    return [(start, min(start + BLOCK, T)) for start in range(0, T, BLOCK)]
