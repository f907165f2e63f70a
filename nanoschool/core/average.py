"""average: a policy whose weights are the running average of another's: the teacher that a learner makes of itself."""

import torch
from torch import Tensor

from nanoschool.core.policy import Policy


class Average:
    """Starts as a copy; `follow` moves it by `rate` of the way to the policy as it now is."""

    def __init__(self, policy: Policy, rate: float) -> None:
        self.policy, self.rate = policy.snapshot(), rate

    @torch.no_grad()
    def follow(self, policy: Policy) -> None:
        for mine, theirs in zip(self.policy.model.parameters(), policy.model.parameters(), strict=True):
            mine.lerp_(theirs, self.rate)

    def state(self) -> dict[str, Tensor]:
        return dict(self.policy.model.state_dict())

    def restore(self, flat: dict[str, Tensor]) -> None:
        self.policy.model.load_state_dict(flat)
