"""config: the shape of a Qwen3 model (2505.09388) or a Llama (2302.13971), by one dial or a `config.json`; its FLOPs."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nanoschool.types import UserError

ONLY = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "use_sliding_window": False}
SHAPE = {  # ours -> config.json's
    "vocab": "vocab_size",
    "context": "max_position_embeddings",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_width": "head_dim",
    "hidden": "intermediate_size",
}


MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # of a layer
ORDER = (
    MATRICES[:3],
    MATRICES[3:4],
    MATRICES[4:6],
    MATRICES[6:],
)  # each is given what the one before it computed


@dataclass(frozen=True)
class Lora:
    """Adapters (2106.09685) at matrices of every layer."""

    rank: int
    alpha: float  # what they add is scaled by alpha / rank
    matrices: tuple[str, ...] = MATRICES


@dataclass(frozen=True)
class ModelConfig:
    vocab: int
    context: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    hidden: int  # of the feed-forward part
    tied: bool = True  # input embedding and output head share one matrix
    rope_theta: float = 10_000.0
    eps: float = 1e-6
    qk_norm: bool = True  # Qwen3 has it, Llama has not
    lora: Lora | None = None  # then only the adapters are trained

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise UserError(f"model: heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.head_width % 2:
            raise UserError(f"model: head_width ({self.head_width}) must be even for rotary positions")

    @classmethod
    def from_depth(
        cls,
        depth: int,
        vocab: int,
        context: int,
        head_width: int = 32,
        tied: bool = True,
        rope_theta: float = 1000.0,
    ) -> "ModelConfig":
        """The one dial: width 64 a layer, two query heads to a key-value head, feed-forward 8/3 of the width."""
        if depth < 1 or context < 2 or vocab < 2:
            raise UserError(
                f"model: depth {depth}, context {context} and vocab {vocab} must be at least 1, 2 and 2"
            )
        width = 64 * depth
        heads = width // head_width
        kv_heads = heads // 2 if heads % 2 == 0 else heads
        hidden = -(-8 * width // (3 * 32)) * 32
        return cls(vocab, context, width, depth, heads, kv_heads, head_width, hidden, tied, rope_theta)

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` of transformers' Qwen3ForCausalLM, or LlamaForCausalLM where there is no QK-norm."""
        family = "Qwen3" if self.qk_norm else "Llama"
        return {
            "architectures": [f"{family}ForCausalLM"],
            "model_type": family.lower(),
            **{theirs: getattr(self, ours) for ours, theirs in SHAPE.items()},
            "rope_theta": self.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "rms_norm_eps": self.eps,
            "tie_word_embeddings": self.tied,
            "attention_dropout": 0.0,
            "torch_dtype": "float32",
            **ONLY,
        }

    @classmethod
    def from_hf(cls, config: dict[str, Any], where: str = "config.json") -> "ModelConfig":
        """Read the `config.json` of a Qwen3 or a Llama. UserError names what our forward pass does not compute."""
        kind = config.get("model_type")
        if kind not in ("qwen3", "llama"):
            biases = " (its q, k and v have biases)" if kind == "qwen2" else ""
            raise UserError(f"{where}: model_type is {kind!r}{biases}; only qwen3 and llama are read")
        for name, plain in ONLY.items():
            if config.get(name, plain) != plain:
                raise UserError(f"{where}: {name} = {config[name]!r} is not supported, only {plain!r}")
        rope = config.get("rope_parameters") or {}
        for told in (rope, config.get("rope_scaling") or {}):
            if (scaling := told.get("rope_type", told.get("type", "default"))) != "default":
                raise UserError(f"{where}: scaled rotary positions ({scaling}) are not supported")
        shape: dict[str, Any] = dict(config)
        shape.setdefault("num_key_value_heads", config.get("num_attention_heads"))  # as transformers does
        if shape.get("head_dim") is None and {"hidden_size", "num_attention_heads"} <= shape.keys():
            shape["head_dim"] = (
                128 if kind == "qwen3" else shape["hidden_size"] // shape["num_attention_heads"]
            )
        for name in SHAPE.values():
            if type(shape.get(name)) is not int or shape[name] < 1:
                raise UserError(f"{where}: {name} is {shape.get(name)!r}, must be a whole number above 0")
        lora = config.get("lora")  # of ours, where a checkpoint is an adapter
        return cls(
            **{ours: int(shape[theirs]) for ours, theirs in SHAPE.items()},
            tied=config.get("tie_word_embeddings", False),
            rope_theta=rope.get("rope_theta", config.get("rope_theta", 10_000.0)),
            eps=config.get("rms_norm_eps", 1e-6),
            qk_norm=kind == "qwen3",
            lora=Lora(lora["rank"], lora["alpha"], tuple(lora["matrices"])) if lora else None,
        )

    def flops(self, tokens: int, attended: int, scored: int) -> float:
        """Of a forward pass: matmuls over `tokens`, attention over `attended` live (query, key) pairs, `scored` logits."""
        attention = 4 * self.heads * self.head_width * self.layers
        matmuls = self._layers + self._adapters
        return float(2 * matmuls * tokens + attention * attended + 2 * self.width * self.vocab * scored)

    def fitting(self, tokens: int, attended: int, scored: int) -> float:
        """Of a forward and a backward pass. With adapters no gradient of any other weight is taken, nor one of what comes
        before the first of them."""
        whole = 3 * self.flops(tokens, attended, scored)
        if self.lora is None:
            return whole
        shapes, chosen, before, attention = self._shapes(), self.lora.matrices, 0, 0
        for group in ORDER:  # of the first layer
            before += sum(shapes[name][0] * shapes[name][1] for name in group)
            before += sum(self.lora.rank * shapes[name][0] for name in group if name in chosen)
            if any(name in chosen for name in group):
                break
            attention = 8 * self.heads * self.head_width
        matmuls = self._layers + before
        return float(
            whole - 2 * matmuls * tokens - attention * attended - 2 * self.width * self.vocab * scored
        )

    def _shapes(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of each matrix of a layer."""
        D, H, G = self.width, self.heads * self.head_width, self.kv_heads * self.head_width
        shapes = ((D, H), (D, G), (D, G), (H, D), (D, self.hidden), (D, self.hidden), (self.hidden, D))
        return dict(zip(MATRICES, shapes, strict=True))

    @cached_property
    def _layers(self) -> int:
        """Weights in the matrices of all layers."""
        return self.layers * sum(i * o for i, o in self._shapes().values())

    @cached_property
    def _adapters(self) -> int:
        """Weights in the adapters of all layers."""
        shapes, spec = self._shapes(), self.lora
        return self.layers * spec.rank * sum(sum(shapes[name]) for name in spec.matrices) if spec else 0
