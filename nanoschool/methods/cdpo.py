"""cdpo: conservative DPO (Mitchell 2023, ericmitchell.ai/cdpo.pdf): as dpo (2305.18290), for labels of which some are wrong.

With a share ε of the labels flipped the target probability of the chosen side is 1 − ε, so the margin stops growing where
the policy is that sure. What we changed from the note: as dpo.
"""

from dataclasses import dataclass

from torch import Tensor

from nanoschool import preference
from nanoschool.methods.base import require
from nanoschool.methods.dpo import DPO
from nanoschool.methods.pairwise import Replies


@dataclass(frozen=True)
class CDPO(DPO):
    flipped: float = 0.1  # epsilon, the share of labels that are taken to be wrong

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.flipped < 0.5, self, f"flipped={self.flipped} must be from 0 to below 0.5")

    def objective(self, chosen: Replies, rejected: Replies) -> Tensor:
        """−(1 − ε) log σ(β (u − v)) − ε log σ(−β (u − v))."""
        return preference.cdpo(chosen.ratios, rejected.ratios, self.beta, self.flipped)


METHOD = CDPO
