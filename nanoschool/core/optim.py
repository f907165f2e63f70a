"""Optimizers: Muon (Jordan 2024; 2502.16982) for the matrices of the layers, AdamW (1711.05101) for the rest.

What we changed from Muon: matrices of one shape are orthogonalised together, in one batched product; in bfloat16, as in
the original, only where the device has instructions for it.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from nanoschool.core.device import compute_dtype


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal by five Newton-Schulz steps; all parameters are matrices."""

    def __init__(
        self,
        params: list[nn.Parameter],
        lr: float,
        momentum: float = 0.9,
        dtype: torch.dtype = torch.float32,  # of the Newton-Schulz steps
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # ty: ignore[incompatible-method-override] (takes no closure)
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(p.shape, []).append((p, p.grad))
            for shape, pairs in by_shape.items():
                updates = []
                for p, grad in pairs:
                    buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    buffer.lerp_(grad, 1 - group["momentum"])
                    updates.append(torch.lerp(grad, buffer, group["momentum"]))  # Nesterov
                scale = max(1.0, shape[0] / shape[1]) ** 0.5
                for (p, _), update in zip(
                    pairs, orthogonal(torch.stack(updates).to(self.dtype)).float(), strict=True
                ):
                    p.add_(update, alpha=-group["lr"] * scale)


def orthogonal(x_NIJ: Tensor, steps: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrices, roughly: quintic Newton-Schulz, coefficients of Jordan's Muon."""
    tall = x_NIJ.shape[1] > x_NIJ.shape[2]
    x = x_NIJ.mT if tall else x_NIJ
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.mT if tall else x


class Companion(Protocol):
    """What is trained beside the policy, such as a critic or an average of its weights."""

    def state(self) -> dict[str, Tensor]: ...

    def restore(self, flat: dict[str, Tensor]) -> None: ...


class Optimizer:
    """Several torch optimizers stepped as one, with a gradient clip, a learning-rate scale and a flat state.

    `beside` holds what a method trains beside the policy: it is saved and restored with the state, and not stepped.
    """

    def __init__(self, parts: list[torch.optim.Optimizer], clip: float) -> None:
        self.parts, self.clip = parts, clip
        self.beside: dict[str, Companion] = {}
        self.rates = [[group["lr"] for group in part.param_groups] for part in parts]

    def step(self, scale: float) -> float:
        """One update at `scale` times the base learning rates; returns the gradient norm before clipping."""
        params = [p for part in self.parts for group in part.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(params, self.clip)
        for part, rates in zip(self.parts, self.rates, strict=True):
            for group, rate in zip(part.param_groups, rates, strict=True):
                group["lr"] = rate * scale
            part.step()
            part.zero_grad(set_to_none=True)
        return float(norm)

    def state(self) -> dict[str, Tensor]:
        """Every tensor of the state by name, "part.parameter.field", or "companion/its own name"."""
        flat = {}
        for i, part in enumerate(self.parts):
            for j, fields in part.state_dict()["state"].items():
                flat |= {f"{i}.{j}.{name}": torch.as_tensor(value) for name, value in fields.items()}
        for name, companion in self.beside.items():
            flat |= {f"{name}/{key}": value for key, value in companion.state().items()}
        return flat

    def restore(self, flat: dict[str, Tensor]) -> None:
        for name, companion in self.beside.items():
            companion.restore(
                {k.removeprefix(f"{name}/"): v for k, v in flat.items() if k.startswith(f"{name}/")}
            )
        own = {key: value for key, value in flat.items() if "/" not in key}
        for i, part in enumerate(self.parts):
            nested: dict[int, dict[str, Tensor]] = {}
            for key, value in own.items():
                part_index, param_index, name = key.split(".")
                if int(part_index) == i:
                    nested.setdefault(int(param_index), {})[name] = value
            part.load_state_dict({**part.state_dict(), "state": nested})


def muon_adamw(
    model: nn.Module, lr: float, embedding_lr: float, gain_lr: float, clip: float = 1.0
) -> Optimizer:
    """For reading from scratch: Muon at `lr` on the layers' matrices, AdamW on embeddings, head and gains."""
    named = dict(model.named_parameters())
    matrices = [p for n, p in named.items() if p.ndim == 2 and ".layers." in n]
    rest = [
        {"params": [p for n, p in named.items() if "embed_tokens" in n], "lr": embedding_lr},
        {"params": [p for n, p in named.items() if p.ndim == 1 or "lm_head" in n], "lr": gain_lr},
    ]
    muon = Muon(matrices, lr, dtype=compute_dtype(matrices[0].device))
    return Optimizer([muon, torch.optim.AdamW(rest, betas=(0.9, 0.95), weight_decay=0.0, fused=True)], clip)


def adamw(model: nn.Module, lr: float, betas: tuple[float, float], clip: float = 1.0) -> Optimizer:
    """For everything after reading: AdamW on all parameters that are trained, no decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return Optimizer([torch.optim.AdamW(trained, lr=lr, betas=betas, weight_decay=0.0, fused=True)], clip)
