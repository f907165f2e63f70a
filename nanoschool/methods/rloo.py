"""rloo: REINFORCE with the leave-one-out mean of the group as baseline, and the KL in the reward (2402.14740).

R_i = r_i − β (log π(y_i|x) − log π_ref(y_i|x)), k1 over the whole attempt (Eq. 3); β is 0 unless given, as it is for a
learned reward. What we changed from the paper: one on-policy step a batch, so there is no ratio and no clip; the loss is the
mean over the tokens of the attempts that have an advantage, and of the demonstrations replayed beside them.
"""

from dataclasses import dataclass

from nanoschool.core.batch import Batch
from nanoschool.credit import by_group, leave_one_out
from nanoschool.methods.base import Learner, require
from nanoschool.methods.practice import Practice
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class RLOO(Practice):
    kl: float = 0.0  # beta, on the k1 estimate against the stage's first weights

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.kl < float("inf"), self, f"kl={self.kl} must be 0 or above, and finite")

    @property
    def needs_reference(self) -> bool:  # ty: ignore[incompatible-property-override] (it depends on a setting)
        return self.kl > 0

    def advantages(self, trajectories: list[Trajectory]) -> list[float]:
        """A_i = R_i − mean of the others' R (Eq. 8)."""
        return by_group([t.group for t in trajectories], [self.worth(t) for t in trajectories], leave_one_out)

    def worth(self, t: Trajectory) -> float | None:
        if t.rewards is None or not self.kl:
            return t.rewards
        return t.rewards - self.kl * sum(drift(t))

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        if not self.kl:
            return super().credit(learner, trajectories)
        assert learner.reference is not None, "the learner keeps a reference where the method needs one"
        batch = Batch.of(trajectories)
        with learner.policy.ledger.account("reference"):
            reference_BT = learner.reference.logprobs(batch).cpu()
        for t, row in zip(trajectories, reference_BT.tolist(), strict=True):
            t.extra["reference"] = row[: len(t.tokens)]
        mean = sum(sum(drift(t)) for t in trajectories) / len(trajectories)
        return super().credit(learner, trajectories) | {"kl": mean}


def drift(t: Trajectory) -> list[float]:
    """k1 of every token: log π − log π_ref where the policy sampled, 0 elsewhere."""
    rows = zip(t.logprobs, t.extra["reference"], t.mask, strict=True)
    return [own - reference if sampled else 0.0 for own, reference, sampled in rows]


METHOD = RLOO
