"""Comparisons: what preferences are learned from, a finite set read over and over, each time in a new order.

They are a world's (its judges', on the train split), or those of a file of the user's. The two sides of each are rows of one
batch that share `Trajectory.pair`; a chosen reply's tokens have weight 1, a rejected one's −1. What we add to every paper:
the learning rate rises at the start and falls to 0 over the budget.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from nanoschool.core.examples import Comparison, Example, Judged
from nanoschool.core.policy import Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.methods.base import Learner, Method, require, require_schedule
from nanoschool.methods.dataset import MEASURED, epochs, fitting, read_file, read_split, unchanged
from nanoschool.methods.material import trained
from nanoschool.rollout import stable_hash
from nanoschool.types import Environment, HasPairs, Message, Trajectory


@dataclass(frozen=True)
class Scheduled(Method):
    """The learning rate of one who learns from comparisons."""

    lr: float = 2e-4
    beta2: float = 0.99
    warmup: float = 0.06
    cooldown: float = 0.9

    def __post_init__(self) -> None:
        require_schedule(self, warmup=self.warmup, cooldown=self.cooldown, lr=self.lr)

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        return {}  # a side is worth what `both` gave it


@dataclass(frozen=True)
class Comparisons(Scheduled):
    """A finite set of comparisons to learn from."""

    reads: ClassVar[tuple[type, ...]] = (Comparison,)  # rows that its file may hold

    pairs: int = 16  # comparisons a step
    known: int = 5000  # comparisons that there are of a world
    data: Path | None = None  # a .jsonl of {"prompt", "chosen", "rejected"} in place of the world's

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in ("pairs", "known"):
            value = getattr(self, setting)
            require(value >= 1, self, f"{setting}={value} must be at least 1")

    def check(self, env: Environment) -> None:
        if self.data is None:
            pairs_world(self, env)
        else:
            read_split(self.data, self.reads, "train")

    def check_rows(self, tokenizer: Tokenizer, context: int) -> None:
        for row in read_file(self.data, self.reads) if self.data is not None else ():
            for said in answers_of(row):
                fitting(tokenizer, said, context, row.place)

    def check_alone(self) -> None:
        source = 'name a world that has some, env = "taste", or your data, a .jsonl'
        require(self.data is not None, self, f"has no comparisons to learn from: {source}")
        assert self.data is not None
        read_split(self.data, self.reads, "train")

    def examples(self, learner: Learner) -> Sequence[Example]:
        """All that there are to learn from."""
        if self.data is None:
            world = pairs_world(self, learner.env)
            return world_pairs(world, "train", self.known, learner.seed)  # ty: ignore[invalid-argument-type] (frozen)
        unchanged(learner, self.data)
        return read_split(self.data, self.reads, "train")

    def kept(self, split: str) -> Sequence[Example]:
        """What is measured of a file's rows that were kept back; nothing where there is no file."""
        return read_split(self.data, self.reads, split)[:MEASURED] if self.data is not None else ()

    def collect(self, learner: Learner) -> list[Trajectory]:
        every = self.examples(learner)
        drawn = [every[i] for i in epochs(len(every), self.pairs, learner, "comparisons")]
        compared = [row for row in drawn if isinstance(row, Comparison)]
        return [side for pair, row in enumerate(compared) for side in both(learner.policy, row, pair)]


def both(policy: Policy, row: Comparison, pair: int) -> tuple[Trajectory, Trajectory]:
    """The two sides of a comparison, chosen first."""
    chosen = replied(policy, row.prompt, row.chosen, 1.0, row.place)
    rejected = replied(policy, row.prompt, row.rejected, -1.0, row.place)
    return replace(chosen, pair=pair), replace(rejected, pair=pair)


def replied(policy: Policy, prompt: str, reply: str, weight: float, place: str) -> Trajectory:
    """A reply to a prompt as it is trained on. UserError names the place of one that the context has no room for."""
    notes = [Message("system", policy.prompt)] if policy.prompt else []
    said = [*notes, Message("user", prompt), Message("assistant", reply)]
    return trained(*fitting(policy.tokenizer, said, policy.model.config.context, place), weight)


def answers_of(row: Example) -> list[list[Message]]:
    """What a row holds, as conversations."""
    if isinstance(row, Comparison):
        replies = [row.chosen, row.rejected]
    else:
        assert isinstance(row, Judged), "a conversation is no comparison"
        replies = [row.completion]
    return [[Message("user", row.prompt), Message("assistant", reply)] for reply in replies]


def pairs_world(method: Method, env: Environment | None) -> HasPairs:
    """The world, if it yields preferences. Raises UserError where it does not."""
    assert env is not None, "`check_alone` asks for a world where there is no file"
    lacks = f"world {env.name!r} has no pairs, which it learns from; name another, or your data, a .jsonl"
    require(isinstance(env, HasPairs), method, lacks)
    assert isinstance(env, HasPairs)
    return env


@lru_cache(maxsize=4)
def world_pairs(world: HasPairs, split: str, count: int, seed: int) -> Sequence[Comparison]:
    """A world's comparisons, the same for a run's every step and stage; worlds are frozen, so they are made once."""
    rows = world.pairs(split, count, seed=stable_hash(f"{seed}/pairs"))
    return tuple(Comparison(*row, place=f"pair {i} of {split}") for i, row in enumerate(rows))
