"""lora: low-rank adapters (2106.09685): W x + (α/r) B A x, where only A and B are trained; in PEFT's format on disk.

A is drawn uniformly in ±1/sqrt(fan-in) and B starts at 0, as in PEFT, so an adapted model begins as the one it adapts.
Names and files are PEFT's, so that `PeftModel.from_pretrained` opens a folder: `adapter_config.json` and
`adapter_model.safetensors`. Shapes: r rank, I inputs, O outputs of a matrix.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from nanoschool.core.config import Lora, ModelConfig
from nanoschool.core.linear import Linear, linear
from nanoschool.core.model import GPT

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # PEFT's, before the name that a weight has in the model


class Adapted(nn.Module):
    """A matrix that stays as it is, with its adapter. `weight` keeps the name that it had."""

    def __init__(self, matrix: nn.Linear, spec: Lora, random: torch.Generator) -> None:
        super().__init__()
        self.weight, self.scale = matrix.weight, spec.alpha / spec.rank
        device = matrix.weight.device
        self.lora_A = Linear(matrix.in_features, spec.rank).to(device)
        self.lora_B = Linear(spec.rank, matrix.out_features).to(device)
        with torch.no_grad():
            drawn_RI = 2 * torch.rand(self.lora_A.weight.shape, generator=random) - 1
            self.lora_A.weight.copy_(drawn_RI * matrix.in_features**-0.5)
            self.lora_B.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight) + self.scale * self.lora_B(self.lora_A(x))

    @torch.no_grad()
    def merged(self) -> Tensor:
        """One matrix that does the same, (O, I)."""
        return self.weight + self.scale * self.lora_B.weight @ self.lora_A.weight


def adapted(model: GPT, spec: Lora, seed: int = 0) -> GPT:
    """The same model with adapters, drawn by `seed`, at the matrices that `spec` names; nothing else is trained."""
    model.requires_grad_(False)
    random = torch.Generator().manual_seed(seed)
    for owner in [part for part in model.modules() if not isinstance(part, Adapted)]:
        for name, matrix in list(owner.named_children()):
            if name in spec.matrices and isinstance(matrix, nn.Linear):
                setattr(owner, name, Adapted(matrix, spec, random))
    model.config = replace(model.config, lora=spec)
    return model


def build(config: ModelConfig, seed: int = 0) -> GPT:
    """The model of a configuration, with its adapters where it has some."""
    model = GPT(replace(config, lora=None), seed)
    return adapted(model, config.lora, seed) if config.lora else model


@torch.no_grad()
def merged(model: GPT) -> GPT:
    """A model without adapters that does what this one does."""
    plain = GPT(replace(model.config, lora=None)).to(model.cos.device)
    inside = {name: part.merged() for name, part in model.named_modules() if isinstance(part, Adapted)}
    weights = {name: value for name, value in model.state_dict().items() if not is_adapter(name)}
    plain.load_state_dict(weights | {f"{name}.weight": value for name, value in inside.items()})
    return plain


def is_adapter(name: str) -> bool:
    """Is a weight of this name an adapter's?"""
    return ".lora_A." in name or ".lora_B." in name


def files(spec: Lora, weights: Mapping[str, Tensor], base: str) -> dict[str, bytes]:
    """An adapter as PEFT keeps it, by file name; `base` is the folder of the weights that it adapts."""
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(spec.matrices),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
    }
    own = {
        PREFIX + name: value.detach().to("cpu", copy=True).contiguous()
        for name, value in weights.items()
        if is_adapter(name)
    }
    return {
        CONFIG: json.dumps(config, indent=1).encode(),
        WEIGHTS: safetensors.torch.save(own, {"format": "pt"}),
    }


def read(files: Mapping[str, bytes]) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """(the folder that it adapts, `lora` of a model's config.json, the weights by their names in the model)."""
    config = json.loads(files[CONFIG])
    spec = {"rank": config["r"], "alpha": config["lora_alpha"], "matrices": config["target_modules"]}
    weights = safetensors.torch.load(files[WEIGHTS])
    own = {name.removeprefix(PREFIX): value for name, value in weights.items()}
    return config["base_model_name_or_path"], spec, own
