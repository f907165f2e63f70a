"""GPT in Qwen3's architecture (2505.09388): pre-norm RMSNorm, per-head QK-norm, GQA, half-split RoPE, SwiGLU, no bias.

Without QK-norm it is a Llama. Parameter names are Hugging Face's, so a state dict is a `Qwen3ForCausalLM` checkpoint (or
a `LlamaForCausalLM`) as it is.
Shapes: B batch, S tokens, D width, H query heads, G key-value heads, K head width, V vocabulary.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nanoschool.core.config import ModelConfig
from nanoschool.core.graph import graph
from nanoschool.core.linear import Linear, compute_type, joined, linear
from nanoschool.core.norm import RMSNorm, rotate
from nanoschool.core.swiglu import swiglu

# attend(layer, q_BHSK, k_BGSK, v_BGSK) -> (B, H, S, K): the trainer attends causally, the engine to its cache
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def causal(layer: int, q_BHSK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q_BHSK, k_BGSK, v_BGSK, is_causal=True, enable_gqa=True)


class Attention(nn.Module):
    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.q_proj = Linear(c.width, c.heads * c.head_width)
        self.k_proj = Linear(c.width, c.kv_heads * c.head_width)
        self.v_proj = Linear(c.width, c.kv_heads * c.head_width)
        self.o_proj = Linear(c.heads * c.head_width, c.width)
        self.q_norm = RMSNorm(c.head_width, c.eps) if c.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(c.head_width, c.eps) if c.qk_norm else nn.Identity()
        self.heads, self.kv_heads, self.head_width = c.heads, c.kv_heads, c.head_width

    def before(self, x_BSD: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """q (B, H, S, K), k and v (B, G, S, K): of one type, but on a CPU, which rounds q once it has scaled it."""
        B, S, _ = x_BSD.shape
        qkv = joined(x_BSD, (self.q_proj, self.k_proj, self.v_proj)).view(B, S, -1, self.head_width)
        q_BSHK, k_BSGK, v_BSGK = qkv.split((self.heads, self.kv_heads, self.kv_heads), dim=2)
        q, k = rotate(self.q_norm(q_BSHK), rope), rotate(self.k_norm(k_BSGK), rope)
        if x_BSD.device.type != "cpu":
            q, k = q.to(v_BSGK.dtype), k.to(v_BSGK.dtype)
        return q.transpose(1, 2), k.transpose(1, 2), v_BSGK.transpose(1, 2)

    def after(self, out_BSHK: Tensor) -> Tensor:
        return self.o_proj(out_BSHK.flatten(2))


class MLP(nn.Module):
    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(c.width, c.hidden)
        self.up_proj = Linear(c.width, c.hidden)
        self.down_proj = Linear(c.hidden, c.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(swiglu(joined(x, (self.gate_proj, self.up_proj))))


class Layer(nn.Module):
    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm, self.self_attn = RMSNorm(c.width, c.eps), Attention(c)
        self.post_attention_layernorm, self.mlp = RMSNorm(c.width, c.eps), MLP(c)

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], layer: int, attend: Attend, compiled: bool
    ) -> Tensor:
        before, after = (graph(part, compiled, along=1) for part in (Layer.before, Layer.after))
        out_BHSK = attend(layer, *before(self, x, rope))
        return after(self, x, out_BHSK.transpose(1, 2))

    def before(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        return self.self_attn.before(self.input_layernorm(x, compute_type(x)), rope)

    def after(self, x: Tensor, out_BSHK: Tensor) -> Tensor:
        x = x + self.self_attn.after(out_BSHK)
        return x + self.mlp(self.post_attention_layernorm(x, compute_type(x)))


class Body(nn.Module):
    """What Hugging Face's weights call `model`; GPT runs it."""

    def __init__(self, c: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab, c.width)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = RMSNorm(c.width, c.eps)


class GPT(nn.Module):
    cos: Tensor
    sin: Tensor
    lm_head: Linear  # absent where tied

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.model = Body(config)
        if not config.tied:
            self.lm_head = Linear(config.width, config.vocab)
        cos_TK, sin_TK = rope_tables(config)
        self.register_buffer("cos", cos_TK, persistent=False)
        self.register_buffer("sin", sin_TK, persistent=False)
        self.recompute = False  # a layer's activations in the backward pass, in place of keeping them
        self.compiled = False  # what is before and after attention
        self.initialise(seed)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Matrices at 1/sqrt(fan-in), those that write to the residual stream scaled down by sqrt(2 layers).

        Embeddings start at 0.5, so that the first layer's output does not drown them; where the head is tied to
        them, the final gain of 0.1 brings the logits back to a standard deviation near 0.05 sqrt(D).
        """
        random = torch.Generator().manual_seed(seed)
        for name, p in self.named_parameters():
            if p.ndim == 1:
                continue
            std = p.shape[1] ** -0.5
            if "o_proj" in name or "down_proj" in name:
                std *= (2 * self.config.layers) ** -0.5
            elif "embed_tokens" in name:
                std = 0.5
            elif "lm_head" in name:
                std = 0.05
            p.copy_(torch.randn(p.shape, generator=random) * std)
        if self.config.tied:
            self.model.norm.weight.fill_(0.1)

    @property
    def head(self) -> Tensor:
        """The output matrix, (V, D)."""
        return self.model.embed_tokens.weight if self.config.tied else self.lm_head.weight

    def forward(
        self, tokens_BS: Tensor, positions_BS: Tensor | None = None, attend: Attend = causal
    ) -> Tensor:
        """Final hidden states, (B, S, D); `logits` turns those that are needed into (…, V)."""
        if positions_BS is None:
            positions_BS = torch.arange(tokens_BS.shape[1], device=tokens_BS.device)[None]
        rope = self.cos[positions_BS][:, :, None], self.sin[positions_BS][:, :, None]
        x_BSD = self.model.embed_tokens(tokens_BS)
        for i, layer in enumerate(self.model.layers):
            given = x_BSD, rope, i, attend, self.compiled
            if self.recompute and torch.is_grad_enabled():
                x_BSD = checkpoint(layer, *given, use_reentrant=False)
            else:
                x_BSD = layer(*given)
        return self.model.norm(x_BSD)

    def logits(self, x: Tensor) -> Tensor:
        return linear(x, self.head).float()


def rope_tables(c: ModelConfig) -> tuple[Tensor, Tensor]:
    """cos and sin, (context, K), the half-split convention: dimension i turns with dimension i + K/2."""
    frequencies = c.rope_theta ** -(torch.arange(0, c.head_width, 2).float() / c.head_width)
    angles = torch.outer(torch.arange(c.context).float(), frequencies).repeat(1, 2)
    return angles.cos(), angles.sin()
