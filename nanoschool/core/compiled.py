"""compiled: a step of the engine written for torch.compile, which makes a few kernels of what is hundreds of operations.

The same function as `Fused`'s, but for rounding. What the compiler does badly is written otherwise: rotations by halves, in
place of complex numbers. A model of one shape and type has a graph for each number of pools, and as many again where it is
greedy; counts of rows are its variables. `Fused` reads; `graphs` alone uses this.
Shapes: P rows, B of them in one pool, S slots of it, D width, H query heads, G key-value heads, K head width, T positions,
F hidden, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch._dynamo
import torch.fx.experimental._config as symbols
import torch.nn.functional as F
from torch import Tensor

from nanoschool.core import live_attention  # noqa: F401 (it defines nanoschool::attend)
from nanoschool.core.draw import Drawn, draw
from nanoschool.core.fused import Fused
from nanoschool.core.model import GPT

for config, name, value in (
    (symbols, "use_duck_shape", False),  # two counts that are the same today need not be tomorrow
    (torch._dynamo.config, "specialize_int", True),  # those of a model's shape are constants
    (torch._dynamo.config, "specialize_float", True),
    (torch._dynamo.config, "recompile_limit", 64),  # by pools, models, types of number
):
    setattr(config, name, value)


@dataclass
class View:
    """The rows of one pool in a step."""

    keys: list[Tensor]  # of every layer, (S, G, K, T)
    values: list[Tensor]  # (S, G, T, K)
    rows_B: Tensor
    slots_B: Tensor


class Compiled(Fused):
    @torch.inference_mode()
    def __init__(self, model: GPT, dtype: torch.dtype) -> None:
        super().__init__(model, dtype)
        self.embedding, self.head = (
            self.embedding.clone(),
            self.head.to(dtype),
        )  # in float32 it is slow on a GPU
        # an adapter's sum is of another kind of tensor than a parameter, for which there would be another graph
        self.layers = [replace(w, out=w.out.clone(), down=w.down.clone()) for w in self.layers]
        matrices = [matrix for w in self.layers for matrix in vars(w).values() if matrix is not None]
        for weight in (self.embedding, self.head, self.turns, *matrices):
            torch._dynamo.mark_static(weight)

    def _table(self, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
        return torch.stack((cos_TK, sin_TK), 1)[:, :, None]

    def _rotate(self, x_PHK: Tensor, turns: Tensor) -> Tensor:
        half = x_PHK.shape[-1] // 2
        cos_P1K, sin_P1K = turns.unbind(1)
        aside_PHK = torch.cat((-x_PHK[..., half:], x_PHK[..., :half]), -1)
        return x_PHK * cos_P1K + aside_PHK * sin_P1K

    def _paired(self, rows: Tensor) -> Tensor:
        return rows  # halves turn together, as the checkpoint has them


@torch.compile(dynamic=True, fullgraph=True)
def whole_step(
    fused: Compiled,
    tokens_P: Tensor,
    at_P: Tensor,
    u_P: Tensor,
    temperature: Tensor,
    greedy: bool,
    views: Sequence[View],
) -> Drawn:
    c = fused.config
    x_PD = fused.embedding[tokens_P]
    for i, w in enumerate(fused.layers):
        qkv_PHK = _product(_unit(x_PD, c.eps), w.qkv).view(-1, c.heads + 2 * c.kv_heads, c.head_width)
        parts = [_attend(fused, i, qkv_PHK, at_P, view) for view in views]
        x_PD = x_PD + _product(torch.cat(parts), w.out)
        gate_PF, up_PF = _product(_unit(x_PD, c.eps), w.gate_up).chunk(2, dim=-1)
        x_PD = x_PD + _product(F.silu(gate_PF) * up_PF, w.down)
    logits_PV = _product(_unit(x_PD, c.eps), fused.head)
    return draw(logits_PV / temperature, 0.0 if greedy else 1.0, u_P)


def _attend(fused: Compiled, layer: int, qkv_PHK: Tensor, at_P: Tensor, view: View) -> Tensor:
    """Attention of one new token a row of a pool, (B, H K)."""
    c, gain = fused.config, fused.layers[layer].gain
    keys_SGKT, values_SGTK = view.keys[layer], view.values[layer]
    qkv_BHK, at_B = qkv_PHK[view.rows_B], at_P[view.rows_B]
    qk_BHK, v_BGK = qkv_BHK[:, : c.heads + c.kv_heads], qkv_BHK[:, c.heads + c.kv_heads :]
    if gain is not None:
        qk_BHK = _unit(qk_BHK, c.eps) * gain
    qk_BHK = fused._rotate(qk_BHK, fused.turns[at_B])
    keys_SGKT[view.slots_B, :, :, at_B] = qk_BHK[:, c.heads :].to(keys_SGKT.dtype)
    values_SGTK[view.slots_B, :, at_B] = v_BGK.to(values_SGTK.dtype)
    return torch.ops.nanoschool.attend(qk_BHK[:, : c.heads], keys_SGKT, values_SGTK, at_B).flatten(1)


def _unit(x: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T in the weight's type, given in float32."""
    return F.linear(x.to(weight.dtype), weight).float()
