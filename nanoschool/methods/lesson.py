"""Lesson: a student's next-token distributions drawn to a teacher's, on the student's own tokens, over a mean of tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from nanoschool.core.batch import Batch, Totals
from nanoschool.core.policy import Policy
from nanoschool.types import Trajectory

Divergence = Callable[
    [Tensor, Tensor], Tensor
]  # log-probabilities of student and teacher, (N, V) each -> (N,)


@dataclass(frozen=True)
class Lesson:
    """A loss for `Policy.fit(whole=True)`: the divergence at every learned token that the teacher sees, in its contexts;
    imitation of the others. The teacher's passes are billed in an account of its own.

    The bits of what is imitated are billed; whether a teacher tells anything new, its method knows.
    """

    teacher: Policy
    contexts: (
        Batch  # the teacher's rows: whatever stands before, they have the student's learned tokens, in order
    )
    divergence: Divergence

    def __call__(self, logprobs_NV: Tensor, batch: Batch, totals: Totals) -> Tensor:
        rows = batch.extra["row"][:, 0]
        taught = (rows >= 0).nonzero()[:, 0]
        of_N = torch.nonzero(batch.mask)[:, 0]
        seen_N = rows[of_N] >= 0
        own_N = logprobs_NV.gather(1, batch.tokens[batch.mask][:, None])[:, 0]
        per_token_N = -batch.weights[batch.mask] * own_N
        nats = -own_N.detach()[~seen_N].sum()
        if len(taught):
            with self.teacher.ledger.account("teacher"):
                teacher_NV = self.teacher.whole(self.contexts.rows(rows[taught].long().cpu()))
            teacher_NV = teacher_NV.to(logprobs_NV.device)
            divergence = self.divergence(logprobs_NV[seen_N], teacher_NV)
            per_token_N = per_token_N.index_put((seen_N,), divergence * batch.weights[batch.mask][seen_N])
        self.teacher.ledger.charge(bits=float(nats) / log(2))
        return per_token_N.sum() / max(totals.tokens, 1)


def teach(
    student: Policy,
    teacher: Policy,
    taught: Sequence[Trajectory],
    contexts: Sequence[Trajectory],
    kept: Sequence[Trajectory],
    divergence: Divergence,
    scale: float,
) -> dict[str, float]:
    """One optimizer step of `student` on the tokens it sampled, and on what is replayed beside them."""
    for number, trajectory in enumerate([*taught, *kept]):
        row = float(number) if number < len(taught) else -1.0
        trajectory.extra["row"] = [row] * len(trajectory.tokens)
    lesson = Lesson(teacher, Batch.of(contexts), divergence)
    return student.fit([*taught, *kept], lesson, scale=scale, whole=True)
