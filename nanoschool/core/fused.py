"""fused: the weights of a model as a session of the engine multiplies with them; made once, for nothing changes them there.

The same function as `GPT`'s, in fewer and larger operations: q, k and v in one product, gate and up in one, each norm's
gain inside the product that follows it, adapters merged, rotations as products of complex numbers (so what turns together
in a head stands side by side). Products with weights are in the session's type; all between them is in float32, and so is
the last, for a temperature divides what logits are off by. The tokens of all rows lie end to end. For oneDNN a few are
added: it prepares a product anew for every count that it has not met of late, which takes longer than the product itself;
they are not billed.
Shapes: N tokens, P with those added, D width, H query heads, G key-value heads, K head width, F hidden, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanoschool.core.attention import Attend, Step
from nanoschool.core.draw import draw
from nanoschool.core.linear import FEW, has_onednn, onednn
from nanoschool.core.lora import Adapted
from nanoschool.core.model import GPT, Attention, Layer, RMSNorm


@dataclass(frozen=True)
class Weights:
    """Of a layer."""

    qkv: Tensor  # ((H + 2 G) K, D)
    gain: Tensor | None  # (H + G, K), of q and k after their norm; None where the model has no such norm
    out: Tensor  # (D, H K)
    gate_up: Tensor  # (2 F, D)
    down: Tensor  # (D, F)


class Fused:
    @torch.inference_mode()
    def __init__(self, model: GPT, dtype: torch.dtype) -> None:
        self.config, self.dtype = model.config, dtype
        self.embedding = model.model.embed_tokens.weight.detach()
        self.head = model.head * model.model.norm.weight
        self.layers = [self._fuse(layer) for layer in model.model.layers]
        self.turns = self._table(model.cos, model.sin)
        self.onednn = has_onednn(model.cos.device)

    def read(self, tokens_N: Tensor, positions_N: Tensor, attend: Attend) -> None:
        """Into the cache that `attend` writes to."""
        self.layers_of(tokens_N, self._attended(positions_N, attend))

    def step(
        self, tokens_B: Tensor, step: Step, temperature: float, u_B: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What `draw.draw` gives, for the token after each of these."""
        logits_PV = self.logits(*self.layers_of(tokens_B, self._attended(step.at_B, step.attend)))
        return draw(logits_PV[: len(tokens_B)], temperature, u_B)

    def logits(self, x_PD: Tensor, more_PD: Tensor) -> Tensor:
        """Of what `layers_of` gives, (P, V)."""
        return self._multiply(len(x_PD), torch.float32)(self._unit(x_PD, more_PD, torch.float32), self.head)

    def layers_of(self, tokens_N: Tensor, attend: Callable[[int, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Hidden states before the last layer's feed-forward part, (P, D) in float32, and what that adds to them.

        `attend(layer, qkv)` of ((P, H + 2 G, K) -> (P, H K)) does all that is between two products."""
        x_PD, more_PD = self.embedding[longer(tokens_N, self._more(len(tokens_N)))], None
        multiply = self._multiply(len(x_PD), self.dtype)
        for i, w in enumerate(self.layers):
            unit_PD = self._unit(x_PD, more_PD, self.dtype)
            qkv_PHK = multiply(unit_PD, w.qkv).view(len(x_PD), -1, self.config.head_width)
            unit_PD = self._unit(x_PD, multiply(attend(i, qkv_PHK), w.out), self.dtype)
            gate_up_PF = multiply(unit_PD, w.gate_up)
            more_PD = multiply(self._gated(gate_up_PF), w.down)
        assert more_PD is not None
        return x_PD, more_PD

    def _attended(self, positions_N: Tensor, attend: Attend) -> Callable[[int, Tensor], Tensor]:
        c, N = self.config, len(positions_N)
        turns = self.turns[positions_N]

        def whole(layer: int, qkv_PHK: Tensor) -> Tensor:
            qkv_NHK = qkv_PHK[:N].float()
            qk_NHK, v_NGK = qkv_NHK.split((c.heads + c.kv_heads, c.kv_heads), dim=1)
            if (gain := self.layers[layer].gain) is not None:
                qk_NHK = self._norm(qk_NHK) * gain
            q_NHK, k_NGK = self._rotate(qk_NHK, turns).split((c.heads, c.kv_heads), dim=1)
            out_NHK = attend(layer, q_NHK, k_NGK, v_NGK)
            return longer(out_NHK.reshape(N, -1).to(self.dtype), len(qkv_PHK) - N)

        return whole

    def _more(self, tokens: int) -> int:
        """How many to add: up to a multiple of FEW, where oneDNN multiplies."""
        return -tokens % FEW if tokens >= FEW and self.onednn else 0

    def _multiply(self, tokens: int, dtype: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
        """The faster one for so many, of and in a type."""
        many = tokens >= FEW and self.onednn and dtype == torch.float32
        return onednn if many else F.linear

    def _unit(self, x_PD: Tensor, more_PD: Tensor | None, dtype: torch.dtype) -> Tensor:
        """x / rms(x) in a type; to x is added first what a product made."""
        if more_PD is not None:
            x_PD += more_PD
        return self._norm(x_PD).to(dtype)

    def _gated(self, gate_up_PF: Tensor) -> Tensor:
        gate_PF, up_PF = gate_up_PF.float().chunk(2, dim=-1)
        return (F.silu(gate_PF) * up_PF).to(self.dtype)

    def _norm(self, x: Tensor) -> Tensor:
        D = x.shape[-1]
        # torch's layer norm is one operation, its RMS norm ten; of (x, −x) they are the same
        if x.shape[0] == 1:
            return torch.layer_norm(torch.cat((x, -x), -1), (2 * D,), None, None, self.config.eps)[..., :D]
        return F.rms_norm(x, (D,), None, self.config.eps)

    def _fuse(self, layer: nn.Module) -> Weights:
        assert isinstance(layer, Layer)
        c, a, mlp = self.config, layer.self_attn, layer.mlp
        read, think = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
        scale = c.head_width**-0.5
        q, k = self._paired(_matrix(a.q_proj)), self._paired(_matrix(a.k_proj))
        gain = self._gain(a, scale) if c.qk_norm else None
        qkv = torch.cat((q if c.qk_norm else q * scale, k, _matrix(a.v_proj)))
        gate_up = torch.cat((_matrix(mlp.gate_proj), _matrix(mlp.up_proj)))
        matrices = (qkv * read, _matrix(a.o_proj), gate_up * think, _matrix(mlp.down_proj))
        qkv, out, gate_up, down = (matrix.to(self.dtype) for matrix in matrices)
        return Weights(qkv, gain, out, gate_up, down)

    def _table(self, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
        """What `_rotate` needs, by position."""
        half = self.config.head_width // 2
        return torch.complex(cos_TK[:, :half], sin_TK[:, :half])[:, None]

    def _rotate(self, x_PHK: Tensor, turns: Tensor) -> Tensor:
        turned = torch.view_as_complex(x_PHK.unflatten(-1, (-1, 2)).contiguous()) * turns
        return torch.view_as_real(turned).flatten(-2)

    def _paired(self, rows: Tensor) -> Tensor:
        """Within each head i and i + K/2 side by side, for they turn together."""
        return rows.unflatten(0, (-1, 2, self.config.head_width // 2)).transpose(1, 2).flatten(0, 2)

    def _gain(self, a: Attention, scale: float) -> Tensor:
        c, q, k = self.config, a.q_norm, a.k_norm
        assert isinstance(q, RMSNorm) and isinstance(k, RMSNorm)
        q, k = self._paired(q.weight) * scale, self._paired(k.weight)
        return torch.cat((q.expand(c.heads, -1), k.expand(c.kv_heads, -1)))


def longer(x: Tensor, more: int) -> Tensor:
    """With so many zeros behind."""
    return torch.cat((x, x.new_zeros(more, *x.shape[1:]))) if more else x


def _matrix(part: nn.Module) -> Tensor:
    """(O, I), with what an adapter adds."""
    if isinstance(part, Adapted):
        return part.merged()
    assert isinstance(part, nn.Linear)
    return part.weight.detach()
