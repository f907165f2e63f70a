"""critic: a model of what a state is worth, beside the policy: a copy of its weights with a value head (1707.06347).

Shapes: B rows, T tokens, D width. Entry t of a value array is of the state before token t.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nanoschool.core.batch import Batch, Totals
from nanoschool.core.optim import adamw
from nanoschool.core.packed import before_learned
from nanoschool.core.policy import Diverged, Policy

ValueLoss = Callable[[Tensor, Batch, Totals], Tensor]  # (values (B, T), batch, totals) -> scalar


class Critic:
    """Starts as the policy is, with a head of zeros: every state is worth 0. Charges the policy's ledger."""

    def __init__(self, policy: Policy, lr: float, beta2: float) -> None:
        self.ledger, self.micro_tokens, self.device = policy.ledger, policy.micro_tokens, policy.device
        self.body = copy.deepcopy(policy.model)
        self.head = nn.Linear(self.body.config.width, 1, bias=False).to(self.device)
        nn.init.zeros_(self.head.weight)
        if not self.body.config.tied:
            self.body.lm_head.requires_grad_(False)  # nothing reads it
        self.net = nn.ModuleDict({"body": self.body, "head": self.head})
        self.optimizer = adamw(self.net, lr, betas=(0.9, beta2))

    def values(self, batch: Batch) -> Tensor:
        """V(s_t), (B, T), where the mask is True; 0 elsewhere."""
        with torch.no_grad():
            self._charge(batch, fitted=False)
            return self._forward(batch.to(self.device)).cpu()

    def fit(
        self, batch: Batch, loss: ValueLoss, *, scale: float, epochs: int, minibatches: int, seed: int
    ) -> float:
        """Optimizer steps as `Policy.fit` makes them; returns the mean loss."""
        losses = []
        for epoch in range(epochs):
            shuffle = torch.Generator().manual_seed((seed + epoch) % 2**63)
            for index in torch.randperm(len(batch), generator=shuffle).chunk(minibatches):
                mini, value = batch.rows(index), 0.0
                for micro in mini.micro(self.micro_tokens):
                    self._charge(micro, fitted=True)
                    micro = micro.to(self.device)
                    part = loss(self._forward(micro), micro, mini.totals())
                    if not torch.isfinite(part):
                        self.net.zero_grad(set_to_none=True)
                        raise Diverged(f"the critic's loss is {float(part.detach())}", mini)
                    part.backward()
                    value += float(part.detach())
                self.optimizer.step(scale)
                losses.append(value)
        return sum(losses) / len(losses)

    def state(self) -> dict[str, Tensor]:
        optimizer = {f"optimizer:{name}": value for name, value in self.optimizer.state().items()}
        return {f"net:{name}": value for name, value in self.net.state_dict().items()} | optimizer

    def restore(self, flat: dict[str, Tensor]) -> None:
        parts: dict[str, dict[str, Tensor]] = {"net": {}, "optimizer": {}}
        for key, value in flat.items():
            part, _, name = key.partition(":")
            parts[part][name] = value
        self.net.load_state_dict(parts["net"])
        self.optimizer.restore(parts["optimizer"])

    def _forward(self, batch: Batch) -> Tensor:
        x_ND, at = before_learned(self.body, batch)
        values_N = self.head(x_ND)[:, 0].float()
        return torch.zeros(batch.tokens.shape, device=self.device).index_put(at, values_N)

    def _charge(self, batch: Batch, fitted: bool) -> None:
        """A pass of the policy without its logits; the head is one number a scored token."""
        lengths, scored, config = batch.lengths.tolist(), int(batch.mask.sum()), self.body.config
        attended = sum(n * (n + 1) // 2 for n in lengths)
        body = (config.fitting if fitted else config.flops)(sum(lengths), attended, 0)
        flops = body + (3 if fitted else 1) * 2 * config.width * scored
        self.ledger.charge(flops=flops, tokens=sum(lengths), trained=scored if fitted else 0)
