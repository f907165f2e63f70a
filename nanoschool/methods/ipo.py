"""ipo: identity preference optimisation (2310.12036): the margin of the log-ratios is drawn to 1/(2τ), not to infinity.

Log-ratios are averaged over a reply's tokens, which TRL says the authors confirmed; the formula alone reads as sums. What
we changed from the paper: AdamW at a learning rate for a small model.
"""

from dataclasses import dataclass

from torch import Tensor

from nanoschool import preference
from nanoschool.methods.base import require
from nanoschool.methods.pairwise import Pairwise, Replies


@dataclass(frozen=True)
class IPO(Pairwise):
    tau: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.tau > 0, self, f"tau={self.tau} must be above 0")

    def objective(self, chosen: Replies, rejected: Replies) -> Tensor:
        """(u − v − 1/(2τ))² (Eq. 17)."""
        return preference.ipo(chosen.ratios / chosen.tokens, rejected.ratios / rejected.tokens, self.tau)

    def reward(self, replies: Replies) -> Tensor:
        return self.tau * replies.ratios / replies.tokens


METHOD = IPO
