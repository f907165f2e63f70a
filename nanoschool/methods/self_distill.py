"""self_distill: SDPO (2601.20802): the model, shown the feedback, is the teacher of the model that is not.

For each attempt the teacher's prompt also holds another attempt of the group that succeeded, or, where there is none, the
review of this one: the world's feedback, unless the model is asked for its own. On the attempt's own tokens the student's
distribution is drawn to the teacher's by the generalised JSD at `alpha`, over the student's `top_k` tokens and one entry for
all others. The teacher is a running average of the weights. An attempt with neither, or whose context has no room for it, is
left out; `silent` is their share.
What we changed from the paper: one on-policy step a batch, so no importance ratio; the hint stands behind the question in
the same message, in fewer words. The reward only says which attempts succeeded. Billed as `fit/teacher`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from nanoschool import bits
from nanoschool.core.average import Average
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.methods.base import Learner, require
from nanoschool.methods.critique import Reviewed
from nanoschool.methods.lesson import teach
from nanoschool.methods.practice import Practice, measures
from nanoschool.stepwise import generalised_jsd, with_tail
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class SelfDistill(Reviewed, Practice):
    judged: ClassVar[bool] = False  # it learns from feedback

    alpha: float = 0.5  # GKD's beta: 0 forward KL, 1 reverse
    top_k: int = 100
    average: float = 0.05  # of the way to the student that the teacher goes at each step
    success: float = 1.0  # the reward from which an attempt is a solution

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.alpha <= 1, self, f"alpha={self.alpha} must be from 0 to 1")
        require(0 <= self.average <= 1, self, f"average={self.average} must be from 0 to 1")
        require(self.top_k >= 1, self, f"top_k={self.top_k} must be at least 1")

    def begin(self, learner: Learner) -> None:
        super().begin(learner)
        assert learner.policy.optimizer is not None
        learner.policy.optimizer.beside["teacher"] = Average(learner.policy, self.average)

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        """1 on every token of an attempt that the teacher can be told something about; the hint takes feedback's place."""
        context = learner.policy.model.config.context
        for trajectory, hint in zip(trajectories, self.hints(trajectories), strict=True):
            trajectory.feedback = hint
            room = len(shown(learner.policy.tokenizer, trajectory).tokens) <= context
            useful = float(bool(hint) and room)
            trajectory.weights = [useful if sampled else 0.0 for sampled in trajectory.mask]
        silent = sum(not any(t.weights) for t in trajectories) / len(trajectories)
        return measures(trajectories) | {"silent": silent}

    def hints(self, trajectories: Sequence[Trajectory]) -> list[str]:
        """What the teacher is told beside each attempt's question; "" where there is nothing to tell."""
        out = []
        for t in trajectories:
            solved = [
                other
                for other in trajectories
                if other.group == t.group
                and other is not t
                and other.rewards is not None
                and other.rewards >= self.success
            ]
            demonstration = f"Correct solution: {' '.join(solved[0].replies)}" if solved else ""
            out.append(demonstration or (f"Feedback: {t.feedback}" if t.feedback else ""))
        return out

    def offered(self, learner: Learner, trajectories: list[Trajectory]) -> float:
        """Of who succeeded; the reviews are billed as they come."""
        groups, scored = [t.group for t in trajectories], [t.rewards for t in trajectories]
        return bits.of_groups(groups, [None if r is None else r >= self.success for r in scored])

    def update(
        self, learner: Learner, useful: list[Trajectory], kept: list[Trajectory], scale: float
    ) -> dict[str, float]:
        teacher = average_of(learner)
        contexts = [shown(learner.policy.tokenizer, t) for t in useful]
        metrics = teach(learner.policy, teacher.policy, useful, contexts, kept, self.divergence, scale)
        teacher.follow(learner.policy)
        return metrics

    def divergence(self, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
        top_NK = student_NV.detach().topk(min(self.top_k, student_NV.shape[1] - 1), dim=-1).indices
        return generalised_jsd(with_tail(student_NV, top_NK), with_tail(teacher_NV, top_NK), self.alpha)


def shown(tokenizer: Tokenizer, t: Trajectory) -> Trajectory:
    """The attempt as the teacher sees it: its feedback, on a line of its own, behind what was first asked."""
    first = t.mask.index(True)
    at = first - 2 if t.tokens[first - 2 : first] == [tokenizer.end, tokenizer.assistant] else first
    hint = tokenizer.encode(f"\n{t.feedback}")

    def put(row: list, what: list) -> list:
        return [*row[:at], *what, *row[at:]]

    zeros = [0.0] * len(hint)
    return replace(
        t,
        tokens=put(t.tokens, hint),
        mask=put(t.mask, [False] * len(hint)),
        logprobs=put(t.logprobs, zeros),
        weights=put(t.weights, zeros),
        extra={},
    )


def average_of(learner: Learner) -> Average:
    assert learner.policy.optimizer is not None
    average = learner.policy.optimizer.beside["teacher"]
    assert isinstance(average, Average), "begin() sets it"
    return average


METHOD = SelfDistill
