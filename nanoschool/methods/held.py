"""Held: practice held near the stage's first weights by a KL term of weight `kl`; at 0 they are neither kept nor asked.

A paper says where the term stands (in the reward or in the loss) and by which estimate.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nanoschool.core.batch import Batch
from nanoschool.methods.base import Learner, require
from nanoschool.methods.practice import Practice


@dataclass(frozen=True)
class Held(Practice):
    kl: float = 0.0  # beta

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.kl < float("inf"), self, f"kl={self.kl} must be 0 or above, and finite")

    @property
    def needs_reference(self) -> bool:  # ty: ignore[incompatible-property-override] (it depends on a setting)
        return self.kl > 0

    def k1(self, learner: Learner, batch: Batch) -> Tensor:
        """log π − log π_ref (B, T) where the policy sampled, 0 elsewhere and where nothing holds it."""
        if not self.kl:
            return torch.zeros_like(batch.logprobs)
        return torch.where(batch.mask, batch.logprobs - learner.reference_logprobs(batch), 0.0)
