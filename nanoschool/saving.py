"""saving: what a checkpoint of a run holds beside weights, how it is put back, and which one a run goes on from."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nanoschool.core import checkpoint
from nanoschool.core.checkpoint import Broken, Checkpoint
from nanoschool.core.policy import Policy
from nanoschool.folder import Folder
from nanoschool.types import UserError


@dataclass
class Progress:
    """state.json: all that the next step depends on, beside weights, optimizer and settings."""

    stage: str
    step: int = 0
    looked: int = -1  # the step of the last look at dev, so that no look is told twice
    done: bool = False  # the stage is over and these are its best weights
    spent: dict[str, Any] = field(default_factory=dict)  # the ledger
    method: dict[str, Any] = field(default_factory=dict)  # learner.state
    prompt: str = ""  # the policy's notes
    knows: dict[str, dict[str, float]] = field(default_factory=dict)  # what it was found to know
    lengths: dict[str, int] = field(default_factory=dict)  # of the line files
    best: dict[str, Any] = field(default_factory=dict)  # {"score", "step", "name"} on dev
    bested: str = ""  # the checkpoint that was best before: older checkpoints still point to it
    seconds: dict[str, float] = field(default_factory=dict)  # of training, by stage; for reading only


def write(policy: Policy, root: Path, at: Progress) -> str:
    """Save the policy and how far it is; returns the checkpoint's name."""
    name = f"{at.stage}-{at.step:06d}"
    at.prompt, at.knows = policy.prompt, policy.knows
    checkpoint.write(
        root,
        name,
        config=policy.model.config.to_hf(),
        weights=policy.model.state_dict(),
        tokenizer=policy.tokenizer,
        training=policy.optimizer.state() if policy.optimizer else {},
        state=asdict(at),
        lora=policy.model.config.lora,
    )
    return name


def restore(policy: Policy, saved: Checkpoint) -> None:
    """Put a checkpoint's weights, and what belongs to them, into a policy of the same shape."""
    missing, unexpected = policy.model.load_state_dict(saved.weights, strict=False)
    if unexpected or (set(missing) - {"lm_head.weight"} if policy.model.config.tied else missing):
        raise UserError(f"{saved.path}: its weights do not fit the model: {[*missing, *unexpected][:3]}")
    policy.prompt = saved.state.get("prompt", "")  # checkpoints from before there were notes have none
    policy.knows = saved.state.get("knows", {})


RESTORE = "restore it, or give the run another --name"
AGAIN = "run the same command again: it goes on from an older checkpoint"


def named(root: Path, name: str, advice: str = RESTORE) -> Checkpoint:
    """The checkpoint that a link or a state names. Raises UserError where it is broken."""
    try:
        return checkpoint.read(root / name)
    except Broken as reason:
        raise UserError(f"{reason}; {advice}") from None


def resumable(root: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint whose stage's best is whole too; None where none was ever written.

    Whatever was passed over is made anew, to the same bits. Raises UserError where checkpoints are there and none
    will do: a run is never started over in silence.
    """

    def best_is_there(saved: Checkpoint) -> None:
        best = saved.state["best"].get("name", saved.path.name)
        if not saved.state["done"] and best != saved.path.name:
            checkpoint.verify(root / best)

    said: list[str] = []
    found = checkpoint.newest(root, said.append, best_is_there)
    if found is None and said:
        raise UserError(f"{said[0]}; {RESTORE}")
    for line in said:
        say(line)
    return found


def fits(folder: Folder, saved: Checkpoint | None, stages: Sequence[str]) -> None:
    """Raise UserError, before anything is changed or spent, where a run's other files do not go with its checkpoint."""
    if saved is None:
        told = folder.path / "metrics.jsonl"  # the first checkpoint is written before the first step is told
        if told.exists() and '"metrics"' in told.read_text(encoding="utf-8"):
            raise UserError(
                f"{folder.checkpoints}: its checkpoints are gone, though {told} tells of steps; {RESTORE}"
            )
        return
    over = list(stages).index(saved.state["stage"]) + saved.state["done"]
    for stage in stages[:over]:
        if not folder.read_json(f"exam-{stage}.json"):
            raise UserError(f"{folder.path / f'exam-{stage}.json'}: is missing; {RESTORE}")


def last_good(root: Path, stage: str, step: int) -> Checkpoint | None:
    """The newest whole checkpoint but the one of this step of this stage, whose weights brought trouble."""

    def earlier(saved: Checkpoint) -> None:
        if (saved.state["stage"], saved.state["step"]) == (stage, step):
            raise Broken(saved.path / "model.safetensors", "brought trouble")

    return checkpoint.newest(root, lambda line: None, earlier)
