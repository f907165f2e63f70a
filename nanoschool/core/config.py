"""config: the shape of a Qwen3 model (2505.09388), from one dial or a `config.json`, and the FLOPs that follow."""

from dataclasses import dataclass

from nanoschool.types import UserError


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

    def to_hf(self) -> dict:
        """The `config.json` of transformers' Qwen3ForCausalLM."""
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "vocab_size": self.vocab,
            "hidden_size": self.width,
            "intermediate_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_width,
            "max_position_embeddings": self.context,
            "rope_theta": self.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "rms_norm_eps": self.eps,
            "tie_word_embeddings": self.tied,
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "use_sliding_window": False,
            "torch_dtype": "float32",
        }

    @classmethod
    def from_hf(cls, config: dict) -> "ModelConfig":
        """Read a Qwen3 `config.json`; anything our forward pass does not compute is refused."""
        if config.get("model_type") != "qwen3":
            raise UserError(f"config.json: model_type is {config.get('model_type')!r}; only qwen3 is read")
        for name, plain in (("hidden_act", "silu"), ("attention_bias", False), ("use_sliding_window", False)):
            if config.get(name, plain) != plain:
                raise UserError(f"config.json: {name} = {config[name]!r} is not supported, only {plain!r}")
        rope = config.get("rope_parameters") or {}
        if rope.get("rope_type", "default") != "default" or config.get("rope_scaling"):
            raise UserError("config.json: scaled rotary positions are not supported")
        return cls(
            vocab=config["vocab_size"],
            context=config["max_position_embeddings"],
            width=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            kv_heads=config["num_key_value_heads"],
            head_width=config["head_dim"],
            hidden=config["intermediate_size"],
            tied=config["tie_word_embeddings"],
            rope_theta=rope.get("rope_theta", config.get("rope_theta", 10_000.0)),
            eps=config["rms_norm_eps"],
        )

    def flops(self, tokens: int, attended: int, scored: int) -> float:
        """Of a forward pass: matmuls over `tokens`, attention over `attended` live (query, key) pairs, `scored` logits."""
        block = (
            self.width * self.head_width * (2 * self.heads + 2 * self.kv_heads) + 3 * self.width * self.hidden
        )
        attention = 4 * self.heads * self.head_width
        return float(
            self.layers * (2 * block * tokens + attention * attended) + 2 * self.width * self.vocab * scored
        )
