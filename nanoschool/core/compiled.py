"""compiled: a step of the engine written for torch.compile, which makes a few loops of what is dozens of operations.

The same function as `Fused`'s, but for rounding. What the compiler does badly is written otherwise: attention as sums, in
place of a product of matrices for each row and head; rotations by halves, in place of complex numbers; positions of the
cache by sixteens, so that no loop has a rest. A model of one shape and type has a graph for a lone row and one for each
number of pools, and as many again where it is greedy; counts of rows and positions are their variables. `Fused` reads.
Shapes: N rows, P with those added for oneDNN, B rows of a pool, S slots of it, D width, H query heads, G key-value heads,
K head width, T positions, F hidden, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import torch._dynamo
import torch.fx.experimental._config as symbols
import torch.nn.functional as F
from torch import Tensor
from torch._inductor.exc import InductorError

from nanoschool.core import attention
from nanoschool.core.cache import Pool
from nanoschool.core.draw import draw
from nanoschool.core.fused import Fused, longer, narrow
from nanoschool.core.linear import FEW, has_onednn, onednn
from nanoschool.core.model import GPT
from nanoschool.types import UserError

for config, name, value in (
    (symbols, "use_duck_shape", False),  # two counts that are the same today need not be tomorrow
    (torch._dynamo.config, "specialize_int", True),  # those of a model's shape are constants
    (torch._dynamo.config, "specialize_float", True),
    (torch._dynamo.config, "recompile_limit", 64),  # by pools, models, types of number
):
    setattr(config, name, value)
LANES = 16  # positions that a loop takes at once
STRIDE = 2 * LANES  # they are read in multiples of it
HAS_ONEDNN = has_onednn(torch.device("cpu"))  # which no graph may ask
# inductor takes oneDNN's own operator for constant weights only
_operators = torch.library.Library("nanoschool", "DEF")
_operators.define("onednn(Tensor a, Tensor b) -> Tensor")
_operators.impl("onednn", onednn, "CPU")
_operators.impl("onednn", lambda a_PI, b_OI: a_PI.new_empty(a_PI.shape[0], b_OI.shape[0]), "Meta")


class Step(attention.Step):
    """Where the newest token of every row stands, and what of the cache it attends to."""

    shortest = 128  # a pool fewer is a graph fewer, and no slower
    spare = STRIDE  # so that never all of a cache is read, which would be another shape than a part

    def __init__(self, pools: Sequence[Pool], lengths_B: np.ndarray, device: torch.device) -> None:
        super().__init__(pools, lengths_B, device)
        N, first, order = len(lengths_B), 0, []
        self.views: list[Summed] = []
        for block in self.blocks:
            rows = list(range(block.first, block.past))
            order += range(first, first + len(rows))
            if N > 1 and len(rows) == 1:
                rows *= 2  # one is another shape than some
            first += len(rows)
            at = torch.tensor(rows, device=device)
            self.views.append(Summed(block.pool.keys, block.pool.values, at, at - block.first, _spots(block)))
        more = -N % FEW if N > 1 and has_onednn(device) else 0
        self.order_P = torch.tensor(order + [0] * more, device=device)

    def advance(self) -> bool:
        fits = super().advance()
        for block, view in zip(self.blocks, self.views, strict=True):
            if view.spots_XY.numel() < block.T:
                view.spots_XY = _spots(block)
        return fits

    def _bias(self, pool: Pool, at_B: Tensor) -> None:
        """None: the loops compare positions."""


@dataclass
class View:
    """The rows of one pool in a step."""

    keys: list[Tensor]  # of every layer, (S, G, K, T)
    values: list[Tensor]  # (S, G, T, K)
    rows_B: Tensor
    slots_B: Tensor

    def attend(self, layer: int, q_BHK: Tensor, at_B: Tensor) -> Tensor:
        """(B, H, K); what is new is in the cache."""
        raise NotImplementedError


@dataclass
class Summed(View):
    """Attention as sums, over as many positions as the longest row takes."""

    spots_XY: Tensor  # the first positions, by LANES

    def attend(self, layer: int, q_BHK: Tensor, at_B: Tensor) -> Tensor:
        (B, H, K), G, T = q_BHK.shape, self.keys[layer].shape[1], self.spots_XY.shape[0] * LANES
        q_BGRK = q_BHK.reshape(B, G, H // G, K)  # heads that share a key head stand side by side
        keys_BGKT, values_BGTK = self.keys[layer][:B, :, :, :T].float(), self.values[layer][:B, :, :T].float()
        scores_BGRT = (q_BGRK.unsqueeze(-1) * keys_BGKT.unsqueeze(2)).sum(3)
        seen_BT = self.spots_XY.view(T) <= at_B[:, None]
        p_BGRT = scores_BGRT.masked_fill(~seen_BT[:, None, None], float("-inf")).softmax(-1)
        return (p_BGRT.unsqueeze(-1) * values_BGTK.unsqueeze(2)).sum(3).view(B, H, K)


def _spots(block: attention.Block) -> Tensor:
    """(T / LANES, LANES); two lines at least, for one is another shape than some."""
    T = -(-block.T // STRIDE) * STRIDE
    return torch.arange(T, device=block.at_B.device).view(-1, LANES)


class Compiled(Fused):
    @torch.inference_mode()
    def __init__(self, model: GPT, dtype: torch.dtype) -> None:
        super().__init__(model, dtype)
        self.embedding = self.embedding.clone()
        # an adapter's sum is of another kind of tensor than a parameter, for which there would be another graph
        self.layers = [replace(w, out=w.out.clone(), down=w.down.clone()) for w in self.layers]
        matrices = [matrix for w in self.layers for matrix in vars(w).values() if matrix is not None]
        for weight in (self.embedding, self.head, self.turns, *matrices):
            torch._dynamo.mark_static(weight)

    def step(
        self, tokens_B: Tensor, step: attention.Step, temperature: float, u_B: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert isinstance(step, Step)
        more = len(step.order_P) - len(tokens_B)
        given = [longer(x, more) for x in (tokens_B, step.at_B, u_B)]
        heat = torch.tensor([temperature or 1.0], device=tokens_B.device)
        found = whole_step(self, *given, heat, not temperature, step.order_P, step.views)
        token_B, logprob_B, entropy_B = (x[: len(tokens_B)] for x in found)
        return token_B, logprob_B, entropy_B

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
    order_P: Tensor,
    views: Sequence[View],
) -> tuple[Tensor, Tensor, Tensor]:
    c = fused.config
    x_PD = fused.embedding[tokens_P]
    for i, w in enumerate(fused.layers):
        qkv_PHK = _product(_unit(x_PD, c.eps), w.qkv).view(-1, c.heads + 2 * c.kv_heads, c.head_width)
        parts = [_attend(fused, i, qkv_PHK, at_P, view) for view in views]
        x_PD = x_PD + _product(torch.cat(parts)[order_P], w.out)
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
    return view.attend(layer, qk_BHK[:, : c.heads], at_B).flatten(1)


def _product(x_PI: Tensor, weight_OI: Tensor) -> Tensor:
    """x W^T in the weight's type, given in float32."""
    on_cpu = x_PI.device.type == "cpu" and HAS_ONEDNN
    if on_cpu and weight_OI.dtype == torch.float32 and x_PI.shape[0] > 1:
        return torch.ops.nanoschool.onednn(x_PI, weight_OI)
    return narrow(x_PI, weight_OI)


def _unit(x: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


@cache
def check(device: str) -> None:
    """UserError where nothing can be compiled for it here."""
    if torch._dynamo.config.disable:
        raise UserError(
            "torch.compile is switched off by TORCH_COMPILE_DISABLE: unset it, or leave steps eager"
        )
    try:
        torch.compile(torch.neg, fullgraph=True)(torch.ones(2, device=device))
    except InductorError as error:
        told = str(error).splitlines()[0]
        raise UserError(
            f"compiled steps need a working C++ compiler ({told}): install g++ or clang, or leave steps eager"
        ) from None
