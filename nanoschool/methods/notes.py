"""notes: learning in the prompt: a playbook of short items, edited by deltas after each review (ACE, 2510.04618).

Generator, reflector and curator are one model: it attempts train problems with its notes in sight (`Policy.prompt`, a system
message); shown an attempt that a review found wrong, it writes a note, billed as `notes`; the note's items go into the
playbook one by one. No weight changes, not a bit of one. What we changed from the paper: an item's worth is how often it
was written again, where theirs is counted by how often it helped or harmed; the least confirmed go where `room` ends. What
a stage finds in the prompt it goes on with. A note that the world's form of notes cannot read changes nothing.
"""

from dataclasses import dataclass
from typing import ClassVar

from nanoschool.methods.base import Learner, Method, require
from nanoschool.methods.critique import Reviewed, require_feedback, write
from nanoschool.methods.playbook import Playbook, form_of
from nanoschool.methods.practice import measures
from nanoschool.rollout import alone, rollout
from nanoschool.types import Environment, HasNotes, Trajectory


@dataclass(frozen=True)
class Attempts(Method):
    """Train problems, each attempted once: what differs between notes is what was learned, not luck."""

    needs_env: ClassVar[bool] = True

    problems: int = 4  # a step
    temperature: float = 0.0  # greedy: what is wrong is then what it believes
    max_tokens: int = 96  # of a reply

    def __post_init__(self) -> None:
        for setting in ("problems", "max_tokens"):
            value = getattr(self, setting)
            require(value >= 1, self, f"{setting}={value} must be at least 1")
        fine = self.temperature == 0 or 1e-3 <= self.temperature < float("inf")
        require(fine, self, f"temperature={self.temperature} must be 0 (greedy), or at least 0.001")

    def begin(self, learner: Learner) -> None:
        learner.policy.optimizer = None  # an earlier stage's: nothing is fitted here

    def collect(self, learner: Learner) -> list[Trajectory]:
        assert learner.env is not None, "the stage names a world"
        return rollout(
            learner.policy,
            learner.env,
            learner.env.tasks("train", self.problems, seed=learner.draw_seed("tasks")),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=learner.draw_seed("rollout"),
            play=alone(learner.env, learner.env.play),
        )


@dataclass(frozen=True)
class Notes(Reviewed, Attempts):
    room: int = 64  # tokens that the playbook may have in the prompt

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.room >= 1, self, f"room={self.room} must be at least 1 token")

    def check(self, env: Environment) -> None:
        super().check(env)
        require_feedback(self, env)
        told = isinstance(env, HasNotes) or env.replayable
        require(
            told,
            self,
            f"world {env.name!r} cannot be replayed, so its attempts cannot be told of; practise in another",
        )

    def begin(self, learner: Learner) -> None:
        super().begin(learner)
        context = learner.policy.model.config.context
        require(self.room < context, self, f"room={self.room} must be below the context, {context} tokens")
        learner.state["playbook"] = found_in(learner).to_json()

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        """Write a note on each attempt that was found wrong, in the place of its review."""
        wrong = [t for t in trajectories if t.feedback]
        with learner.policy.ledger.account("notes"):
            for t, note in zip(wrong, self.notes(learner, wrong), strict=True):
                t.feedback = note
        return measures(trajectories) | {"reviewed": float(len(wrong))}

    def notes(self, learner: Learner, attempts: list[Trajectory]) -> list[str]:
        """A note on each attempt, whose `feedback` is its review."""
        assert learner.env is not None, "the stage names a world"
        form, asks = form_of(learner.env), []
        for t in attempts:
            assert t.task is not None, "an attempt at a task"
            asks.append(form.invite(t.task, t.replies, t.feedback))
        return write(learner.policy, asks, learner.draw_seed("notes"))

    def fit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        """Edit the playbook, and hang it in the prompt."""
        assert learner.env is not None, "the stage names a world"
        form, book = form_of(learner.env), Playbook.from_json(learner.state["playbook"])
        deltas = [form.items(t.feedback) for t in trajectories if t.feedback]
        edited = sum(book.edit(delta) for delta in deltas)
        encode = learner.policy.tokenizer.encode
        dropped = book.shrink(lambda items: len(encode(form.playbook(items))) <= self.room)
        learner.state["playbook"] = book.to_json()
        learner.policy.prompt = form.playbook(book.texts())
        readable = sum(map(bool, deltas)) / max(len(deltas), 1)
        counts = {"items": len(book.items), "edited": edited, "dropped": dropped}
        return {name: float(count) for name, count in counts.items()} | {"readable": readable}


def found_in(learner: Learner) -> Playbook:
    """The playbook that hangs in the prompt."""
    assert learner.env is not None, "the stage names a world"
    book = Playbook()
    book.edit(form_of(learner.env).items(learner.policy.prompt))
    return book


METHOD = Notes
