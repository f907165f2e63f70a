"""train: the one loop. A stage is a method with a budget; it steps until the budget is spent, and can be killed anywhere.

Everything that the next step depends on is in the last checkpoint: weights, optimizer, step, ledger, the method's
state. Looks at the dev split say which checkpoint is the stage's best; the next stage starts from that one.
"""

import copy
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import safetensors.torch
import torch

from nanoschool.core import checkpoint
from nanoschool.core.batch import Batch
from nanoschool.core.checkpoint import Checkpoint
from nanoschool.core.optim import adamw
from nanoschool.core.policy import Diverged, Policy
from nanoschool.folder import Folder
from nanoschool.ledger import Budget, Ledger
from nanoschool.methods.base import Learner, Method
from nanoschool.types import UserError


class Show(Protocol):
    """Who watches a run."""

    def stage(self, name: str, budget: str) -> None: ...
    def step(self, stage: str, step: int, done: float, metrics: dict[str, float], rate: str) -> None: ...
    def sample(self, text: str) -> None: ...
    def say(self, line: str) -> None: ...
    def close(self) -> None: ...


class Interrupted(Exception):
    """Ctrl-C, after a checkpoint was written."""


@dataclass
class Progress:
    """What a checkpoint's state.json holds beside the weights."""

    stage: str
    step: int = 0
    done: bool = False  # the stage is over and these are its best weights
    spent: dict[str, Any] = field(default_factory=dict)  # the ledger
    method: dict[str, Any] = field(default_factory=dict)  # learner.state
    lengths: dict[str, int] = field(default_factory=dict)  # of the line files
    best: dict[str, Any] = field(default_factory=dict)  # {"score", "step", "name"} on dev
    seconds: dict[str, float] = field(default_factory=dict)  # by stage; for reading only


@dataclass
class Stage:
    """One stage under way."""

    name: str
    method: Method
    budget: Budget
    look: Callable[[Policy], tuple[float, dict[str, Any]]]  # the dev split: (score, measures)
    exam: Callable[[Policy], None]  # the test split, once, on the best weights
    check: int  # steps between looks
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
    """Run a stage to the end of its budget; `resume` is a checkpoint inside it, `seconds` what earlier
    stages took. Leaves the best weights in the policy; returns what was written with them.

    Raises Interrupted after Ctrl-C (a checkpoint was written) and UserError where the loss is not a number.
    """
    policy, ledger = learner.policy, learner.policy.ledger
    stage.method.begin(learner)
    assert policy.optimizer is not None
    at = Progress(stage.name, seconds=dict(seconds))
    if resume is not None:
        at = Progress(**resume.state)
        policy.optimizer.restore(resume.training)
        learner.step, learner.state = at.step, at.method
        if at.best:
            checkpoint.point(folder.checkpoints, "best", at.best["name"])
    show.stage(stage.name, f"{stage.budget.unit} {stage.budget.limit:g}")
    clock, earlier = time.monotonic(), at.seconds.get(stage.name, 0.0)

    def spend() -> float:
        return 1.0 - stage.budget.left(ledger.total(stage.name))

    def save() -> None:
        at.step, at.spent, at.method = learner.step, ledger.to_json(), learner.state
        at.lengths = folder.lengths()
        at.seconds[stage.name] = earlier + time.monotonic() - clock
        write(policy, folder, _name(stage, learner), asdict(at))

    def look() -> None:
        score, measures = stage.look(policy)
        folder.append(
            "metrics.jsonl", _line(learner, ledger, earlier + time.monotonic() - clock) | {"dev": measures}
        )
        show.say(
            f"{stage.name} {learner.step}: dev " + ", ".join(f"{k} {v:.3f}" for k, v in measures.items())
        )
        if not at.best or score >= at.best["score"]:
            at.best = {"score": score, "step": learner.step, "name": _name(stage, learner)}
            save()
            checkpoint.point(folder.checkpoints, "best", at.best["name"])

    if resume is None:
        look()
    with _interruptible() as asked_to_stop:
        while (progress := spend()) < 1.0:
            learner.progress = progress
            with ledger.account(stage.name):
                metrics = _step(stage, learner, folder, show)
            learner.step += 1
            elapsed = earlier + time.monotonic() - clock
            folder.append(
                "metrics.jsonl", _line(learner, ledger, elapsed) | {"progress": spend(), "metrics": metrics}
            )
            show.step(stage.name, learner.step, min(1.0, spend()), metrics, _rate(ledger, stage, elapsed))
            show.sample(learner.sample)
            if spend() < 1.0 and learner.step % stage.check == 0:
                look()
            if asked_to_stop or learner.step % stage.save == 0:
                save()
                checkpoint.prune(folder.checkpoints, stage.keep)
            if asked_to_stop:
                raise Interrupted
    finish(stage, learner, folder, at, look, save)
    return at


def finish(
    stage: Stage, learner: Learner, folder: Folder, at: Progress, look: Callable, save: Callable
) -> None:
    """The last look; then the best weights on dev become the stage's own checkpoint, linked by the stage's name."""
    look()
    if at.best["step"] != learner.step:
        restore(learner.policy, checkpoint.read(folder.checkpoints / at.best["name"]))
    stage.exam(learner.policy)
    at.done = True
    save()
    checkpoint.point(folder.checkpoints, stage.name, _name(stage, learner))
    checkpoint.point(folder.checkpoints, "best", _name(stage, learner))
    checkpoint.prune(folder.checkpoints, stage.keep)


def write(policy: Policy, folder: Folder, name: str, state: dict[str, Any]) -> None:
    checkpoint.write(
        folder.checkpoints,
        name,
        config=policy.model.config.to_hf(),
        weights=policy.model.state_dict(),
        tokenizer=policy.tokenizer,
        training=policy.optimizer.state() if policy.optimizer else {},
        state=state,
    )


def restore(policy: Policy, saved: Checkpoint) -> None:
    """Put a checkpoint's weights into a policy of the same shape."""
    missing, unexpected = policy.model.load_state_dict(saved.weights, strict=False)
    if unexpected or (set(missing) - {"lm_head.weight"} if policy.model.config.tied else missing):
        raise UserError(f"{saved.path}: its weights do not fit the model: {[*missing, *unexpected][:3]}")


def _step(stage: Stage, learner: Learner, folder: Folder, show: Show) -> dict[str, float]:
    try:
        return stage.method.step(learner)
    except Diverged as trouble:
        path = folder.path / f"diverged-{stage.name}-{learner.step:06d}.safetensors"
        batch = trouble.batch
        arrays = {
            "tokens": batch.tokens,
            "mask": batch.mask,
            "weights": batch.weights,
            "logprobs": batch.logprobs,
        }
        safetensors.torch.save_file({k: v.contiguous() for k, v in (arrays | batch.extra).items()}, path)
        last = checkpoint.newest(folder.checkpoints, say=show.say)
        good = f"the last good checkpoint is {last.path}" if last else "there is no checkpoint yet"
        raise UserError(
            f"{stage.name} step {learner.step}: {trouble}; the batch is in {path}, {good}; lower --{stage.name}.method.lr"
        ) from None


def measured_rate(policy: Policy) -> float:
    """FLOP/s of fitting on this machine: what turns a budget in seconds into FLOPs, once. Median of five steps.

    A copy is fitted, so the weights stay as they are.
    """
    tokens = torch.randint(policy.model.config.vocab, (32, policy.model.config.context))
    ones = torch.ones(tokens.shape)
    mask = ones.bool()
    mask[:, 0] = False
    batch = Batch(tokens, mask, ones, ones * 0, torch.full((32,), tokens.shape[1]))
    rates, ledger = [], Ledger()
    twin = Policy(copy.deepcopy(policy.model), policy.tokenizer, ledger)
    twin.optimizer = adamw(twin.model, lr=0.0, betas=(0.9, 0.99))
    for _ in range(5):
        before, clock = ledger.total().flops, time.monotonic()
        twin.fit(batch)
        rates.append((ledger.total().flops - before) / (time.monotonic() - clock))
    return sorted(rates)[2]


def _name(stage: Stage, learner: Learner) -> str:
    return f"{stage.name}-{learner.step:06d}"


def _line(learner: Learner, ledger: Ledger, seconds: float) -> dict[str, Any]:
    spent = asdict(ledger.total(learner.stage))
    return {"stage": learner.stage, "step": learner.step, "seconds": round(seconds, 3), "spent": spent}


def _rate(ledger: Ledger, stage: Stage, seconds: float) -> str:
    spent = ledger.total(stage.name)
    if spent.rollouts:
        return f"{spent.rollouts / max(seconds, 1e-9):,.0f} rollouts/s"
    return f"{spent.tokens / max(seconds, 1e-9):,.0f} tokens/s"


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """SIGINT and SIGTERM are noted, and obeyed after the step; a second one is obeyed at once."""
    noted: list[int] = []

    def note(number: int, frame: Any) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
