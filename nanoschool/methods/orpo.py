"""orpo: odds-ratio preference optimisation (2403.07691): imitation of the chosen reply, and its odds over the other's.

No reference: imitation holds the policy. What we changed from the paper: the imitation term is each reply's mean over its
own tokens, then the mean over replies, so that every comparison counts the same; its code takes the mean over all tokens of
a batch, prompts included. AdamW at a learning rate for a small model.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from nanoschool import preference
from nanoschool.methods.base import require
from nanoschool.methods.pairwise import Pairwise, Replies


@dataclass(frozen=True)
class ORPO(Pairwise):
    needs_reference: ClassVar[bool] = False

    weight: float = 0.1  # lambda, on the odds ratio

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.weight >= 0, self, f"weight={self.weight} must be 0 or more")

    def objective(self, chosen: Replies, rejected: Replies) -> Tensor:
        """−P_w + λ × −log σ(log odds_w − log odds_l), of mean log-probabilities P (Eqs. 6 and 7)."""
        return preference.orpo(chosen.means, rejected.means, self.weight)

    def reward(self, replies: Replies) -> Tensor:
        return preference.log_odds(replies.means)


METHOD = ORPO
