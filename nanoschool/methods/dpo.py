"""dpo: direct preference optimisation (2305.18290): the policy is its own reward model, β log π/π_ref.

What we changed from the paper: AdamW, not RMSprop; a learning rate for a small model. The reference is the stage's first
weights, which should have been taught the chosen replies or their like.
"""

from dataclasses import dataclass

from torch import Tensor

from nanoschool import preference
from nanoschool.methods.base import require
from nanoschool.methods.pairwise import Pairwise, Replies


@dataclass(frozen=True)
class DPO(Pairwise):
    beta: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta > 0, self, f"beta={self.beta} must be above 0")

    def objective(self, chosen: Replies, rejected: Replies) -> Tensor:
        """−log σ(β (u − v)) (Eq. 7)."""
        return preference.dpo(chosen.ratios, rejected.ratios, self.beta)

    def reward(self, replies: Replies) -> Tensor:
        """β log π/π_ref, but for a term of the prompt alone (Eq. 5)."""
        return self.beta * replies.ratios


METHOD = DPO
