"""train: the one loop. A stage is a method with a budget; it steps until the budget is spent, and can be killed anywhere.

Everything that the next step depends on is in the last checkpoint: weights, optimizer, step, ledger, the method's
state. Looks at the dev split say which checkpoint is the stage's best; the next stage starts from that one.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import safetensors.torch

from nanoschool.core import checkpoint
from nanoschool.core.checkpoint import Checkpoint
from nanoschool.core.files import write_atomic
from nanoschool.core.policy import Diverged, Policy
from nanoschool.folder import Folder
from nanoschool.interrupt import Interrupted, interruptible
from nanoschool.ledger import OVER, Budget
from nanoschool.methods.base import Learner, Method
from nanoschool.saving import AGAIN, Progress, last_good, named, restore, write
from nanoschool.types import UserError

PATIENCE = 20  # steps after which a budget must have begun to be spent
# (steps done, share of the budget spent before the last of them, and after it) -> is it time to look at dev?
Due = Callable[[int, float, float], bool]


class Diverging(UserError):
    """A training that cannot go on: its loss or gradient is no number."""


class Show(Protocol):
    """Who watches a run."""

    def stage(self, name: str, budget: str) -> None: ...
    def step(self, stage: str, step: int, done: float, metrics: dict[str, float], rate: str) -> None: ...
    def sample(self, text: str) -> None: ...
    def say(self, line: str) -> None: ...
    def close(self) -> None: ...


@dataclass
class Stage:
    """One stage under way."""

    name: str
    method: Method
    budget: Budget
    look: Callable[[Policy], tuple[float, dict[str, Any]]]  # the dev split: (score, measures)
    exam: Callable[[Policy], None]  # the test split, once, on the best weights
    due: Due  # when dev is looked at, beside the start and the end
    save: int  # steps between checkpoints
    keep: int = 2  # checkpoints kept beside those that something points to


def train(
    stage: Stage,
    learner: Learner,
    folder: Folder,
    show: Show,
    resume: Checkpoint | None,
    seconds: dict[str, float],
) -> Progress:
    """Run a stage to the end of its budget; `resume` is a checkpoint inside it, `seconds` what earlier stages took.

    Leaves the best weights in the policy; returns what was written with them. Raises Interrupted after Ctrl-C (a
    checkpoint was written) and Diverging where the loss is not a number.
    """
    course = Course(stage, learner, folder, show, Progress(stage.name, seconds=dict(seconds)))
    stage.method.begin(learner)
    show.stage(stage.name, f"{stage.budget.unit} {stage.budget.limit:g}")
    if resume is None:
        course.look()
    else:
        course.take_up(resume)
    with interruptible() as asked_to_stop:
        while course.progress() < 1.0:
            course.step()
            if learner.step == PATIENCE and not course.progress():
                unit = stage.budget.unit
                raise UserError(
                    f"{stage.name}: none of its budget of {unit} is spent after {PATIENCE} steps; count another unit"
                )
            if course.progress() < 1.0 and stage.due(learner.step, learner.progress, course.progress()):
                course.look()
            if asked_to_stop or learner.step % stage.save == 0:
                course.save()
            if asked_to_stop:
                raise Interrupted
    course.finish()
    return course.at


def every(steps: int) -> Due:
    """A look each so many steps."""
    return lambda step, before, now: step % steps == 0


def shares(looks: int) -> Due:
    """A look each 1/`looks` of the budget: as many whatever a step costs."""
    return lambda step, before, now: int(before * looks) < int(now * looks)


class Course:
    """A stage's way from its first look to its graduation, and the clock beside it."""

    def __init__(self, stage: Stage, learner: Learner, folder: Folder, show: Show, at: Progress) -> None:
        self.stage, self.learner, self.folder, self.show, self.at = stage, learner, folder, show, at
        self.root, self.ledger = folder.checkpoints, learner.policy.ledger
        self.clock, self.earlier = time.monotonic(), 0.0
        learner.over, learner.scratch = lambda: self.progress() >= 1.0, folder.path

    def take_up(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint inside the stage; the policy has its weights already."""
        self.at = at = Progress(**saved.state)
        if self.learner.policy.optimizer is not None:  # who learns in the prompt has none
            self.learner.policy.optimizer.restore(saved.training)
        self.learner.step, self.learner.state = at.step, at.method
        self.earlier = at.seconds.get(at.stage, 0.0)
        checkpoint.point(self.root, "best", at.best["name"])

    def progress(self) -> float:
        """The spent share of the budget."""
        return 1.0 - self.stage.budget.left(self.ledger.total(self.stage.name))

    def seconds(self) -> float:
        return self.earlier + time.monotonic() - self.clock

    def step(self) -> None:
        """One step of the method, and its line."""
        learner, stage = self.learner, self.stage
        learner.progress = self.progress()
        try:
            with self.ledger.account(stage.name):
                metrics = stage.method.step(learner)
        except Diverged as trouble:
            raise Diverging(self._diverged(trouble)) from None
        learner.step += 1
        spent = self.progress()
        self.folder.append("metrics.jsonl", self._line() | {"progress": spent, "metrics": metrics})
        self.show.step(stage.name, learner.step, min(1.0, spent), metrics, self._rate())
        self.show.sample(learner.sample)

    def look(self) -> None:
        """Measure the dev split; what is at least as good as the best becomes the best: ties go to the later."""
        score, measures = self.stage.look(self.learner.policy)
        self.folder.append("metrics.jsonl", self._line() | {"dev": measures})
        numbers = [f"{name} {value:.3f}" for name, value in measures.items() if not isinstance(value, int)]
        counts = [
            f"{value:,} {name}" for name, value in measures.items() if isinstance(value, int)
        ]  # each is an n
        n = f" (n = {', '.join(counts)})" if counts else ""
        self.show.say(f"{self.stage.name} {self.learner.step}: dev {', '.join(numbers)}{n}")
        self.at.looked = self.learner.step
        if not self.at.best or score >= self.at.best["score"]:
            name = f"{self.stage.name}-{self.learner.step:06d}"
            self.at.bested = self.at.best.get("name", "")
            self.at.best = {"score": score, "step": self.learner.step, "name": name}
            self.save()
            checkpoint.point(self.root, "best", name)

    def save(self) -> str:
        """Write a checkpoint, delete old ones; returns its name."""
        at = self.at
        at.step, at.spent, at.method = self.learner.step, self.ledger.to_json(), self.learner.state
        at.lengths = self.folder.lengths()
        if not at.done:  # the exam's time is its own
            at.seconds[at.stage] = self.seconds()
        name = write(self.learner.policy, self.root, at)
        checkpoint.prune(self.root, self.stage.keep, spare=(at.best["name"], at.bested))
        return name

    def finish(self) -> None:
        """The last look; then the best weights on dev sit the exam and become the stage's own checkpoint."""
        if self.at.looked != self.learner.step:
            self.look()
        if self.at.best["step"] != self.learner.step:
            self.save()  # an interrupted exam is sat again, and no step is trained again
            saved, policy = named(self.root, self.at.best["name"], AGAIN), self.learner.policy
            restore(policy, saved)
            if policy.optimizer is not None:
                policy.optimizer.restore(saved.training)  # with it what was trained beside the policy
        with self.ledger.account(self.stage.name):
            self.stage.method.conclude(self.learner)
        if (spent := self.progress()) > OVER:
            self.show.say(
                f"{self.stage.name}: spent {spent:.1f} times its budget, for a step is not divided; fewer problems,"
                " samples or rows make it smaller"
            )
        best = self.at.best
        self.show.say(
            f"{self.stage.name}: goes on with step {best['step']}, the best on dev ({best['score']:.3f})"
        )
        self.at.seconds[self.at.stage] = self.seconds()
        self.stage.exam(self.learner.policy)
        self.at.done = True
        graduate(self.folder, self.save(), self.stage.name)

    def _diverged(self, trouble: Diverged) -> str:
        """Save the batch that was too much; returns what to tell the user."""
        stage, step, batch = self.stage.name, self.learner.step, trouble.batch
        arrays = {
            name: getattr(batch, name)
            for name in ("tokens", "mask", "weights", "logprobs", "lengths", "temperatures")
        }
        path = self.folder.path / f"diverged-{stage}-{step:06d}.safetensors"
        write_atomic(
            path,
            safetensors.torch.save(
                {name: x.cpu().contiguous() for name, x in (arrays | batch.extra).items()}
            ),
        )
        good = last_good(self.root, stage, step)
        return (
            f"{stage} step {step}: {trouble}; the batch is in {path}, the last good checkpoint is "
            f"{good.path if good else 'none'}; try a lower method.lr, under another --name"
        )

    def _line(self) -> dict[str, Any]:
        spent = asdict(self.ledger.total(self.stage.name))
        seconds = round(self.seconds(), 3)
        return {"stage": self.stage.name, "step": self.learner.step, "seconds": seconds, "spent": spent}

    def _rate(self) -> str:
        spent, seconds = self.ledger.total(self.stage.name), max(self.seconds(), 1e-9)
        if spent.rollouts:
            return f"{spent.rollouts / seconds:,.0f} rollouts/s"
        return f"{spent.tokens / seconds:,.0f} tokens/s"


def graduate(folder: Folder, name: str, stage: str) -> None:
    """Link a finished stage's checkpoint by the stage's name; the run's best is now this one."""
    for link in (stage, "best"):
        checkpoint.point(folder.checkpoints, link, name)
