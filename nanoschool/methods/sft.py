"""sft: imitation of worked examples, cross-entropy on what the assistant says (2203.02155, section 3.1).

The examples are worlds' demonstrations, or the conversations of a file of the user's (`data`). What we add: `replay` rows of
the reading at a lower weight, so that what was read is not forgotten.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanoschool.core.batch import Batch
from nanoschool.core.examples import Conversation, Example
from nanoschool.core.optim import adamw
from nanoschool.core.policy import Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.methods import shown
from nanoschool.methods.base import Learner, Method, require, require_schedule, require_weights, trapezoid
from nanoschool.methods.dataset import MEASURED, epochs, fitting, read_file, read_split, unchanged
from nanoschool.methods.material import demonstrations, reading, trained
from nanoschool.types import Environment, Trajectory

READS = (Conversation,)  # rows that its file may hold


@dataclass(frozen=True)
class SFT(Method):
    rows: int = 48  # conversations a step
    replay: int = 8  # rows of reading a step
    replay_weight: float = 0.5
    lr: float = 1e-3
    beta2: float = 0.95
    warmup: float = 0.06
    cooldown: float = 0.9
    data: Path | None = None  # a .jsonl of {"messages": […]} in place of the worlds' demonstrations

    def __post_init__(self) -> None:
        require(self.rows >= 1, self, f"rows={self.rows} must be at least 1")
        require(self.replay >= 0, self, f"replay={self.replay} must be 0 or more rows")
        require_weights(self, beta2=self.beta2, replay_weight=self.replay_weight)
        require_schedule(self, warmup=self.warmup, cooldown=self.cooldown, lr=self.lr)

    def draws_on(self) -> tuple[str, ...]:
        imitated = ("taught",) if self.data is None else ()
        return (*imitated, "mix") if self.replay else imitated

    def check(self, env: Environment) -> None:
        self.check_alone()

    def check_alone(self) -> None:
        if self.data is not None:
            read_split(self.data, READS, "train")

    def check_rows(self, tokenizer: Tokenizer, context: int) -> None:
        for row in read_file(self.data, READS) if self.data is not None else ():
            said(tokenizer, row, context)

    def held_out(self, learner: Learner, split: str) -> dict[str, list[float]]:
        """The loss of each conversation, a token of what the assistant says."""
        if self.data is None:
            return {}
        policy, losses = learner.policy, []
        for part in Batch.of(conversations(policy, read_split(self.data, READS, split)[:MEASURED])).micro(
            policy.micro_tokens
        ):
            losses += (-policy.logprobs(part).sum(1).cpu() / part.mask.sum(1)).tolist()
        return {"loss": losses}

    def begin(self, learner: Learner) -> None:
        learner.policy.optimizer = adamw(learner.policy.model, self.lr, betas=(0.9, self.beta2))

    def collect(self, learner: Learner) -> list[Trajectory]:
        if self.data is None:
            taught = demonstrations(learner, self.rows)
        else:
            unchanged(learner, self.data)
            every = read_split(self.data, READS, "train")
            taught = conversations(
                learner.policy, [every[i] for i in epochs(len(every), self.rows, learner, "conversations")]
            )
        return taught + (reading(learner, self.replay, weight=self.replay_weight) if self.replay else [])

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        return {}  # a demonstration is worth what `trained` gave it

    def fit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        scale = trapezoid(learner.progress, self.warmup, self.cooldown)
        return shown.fit(learner.policy, trajectories, scale=scale, dtype=learner.policy.fast) | {
            "lr": self.lr * scale
        }


def conversations(policy: Policy, rows: Sequence[Example]) -> list[Trajectory]:
    """Conversations to imitate."""
    context = policy.model.config.context
    return [trained(*said(policy.tokenizer, row, context), weight=1.0) for row in rows]


def said(tokenizer: Tokenizer, row: Example, context: int) -> tuple[list[int], list[bool]]:
    assert isinstance(row, Conversation), "`READS` names no other rows"
    return fitting(tokenizer, row.messages, context, row.place)


METHOD = SFT
