"""simpo: simple preference optimisation (2405.14734): the reward is the mean log-probability of a token, and must win by γ.

No reference. What we changed from the paper: AdamW at a learning rate for a small model; β and γ/β are within its ranges
(2 to 2.5, 0.3 to 0.6).
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from nanoschool import preference
from nanoschool.methods.base import require
from nanoschool.methods.pairwise import Pairwise, Replies


@dataclass(frozen=True)
class SimPO(Pairwise):
    needs_reference: ClassVar[bool] = False

    beta: float = 2.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta > 0, self, f"beta={self.beta} must be above 0")
        require(self.gamma >= 0, self, f"gamma={self.gamma} must be 0 or more")

    def objective(self, chosen: Replies, rejected: Replies) -> Tensor:
        """−log σ(β (P_w − P_l) − γ) (Eq. 6)."""
        return preference.simpo(chosen.means, rejected.means, self.beta, self.gamma)

    def reward(self, replies: Replies) -> Tensor:
        return self.beta * replies.means


METHOD = SimPO
