"""start: whose weights a training begins with: a stage of a run (`laptop:sft`), or a folder of Qwen3 or Llama weights."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from nanoschool.core import checkpoint, pretrained
from nanoschool.core.checkpoint import Broken
from nanoschool.core.config import ModelConfig
from nanoschool.core.lora import build, merged
from nanoschool.core.manifest import MANIFEST
from nanoschool.core.policy import Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.ledger import Ledger
from nanoschool.places import existing_run, finished_stage
from nanoschool.plan import MOST, START, Model, Settings, Start
from nanoschool.saving import restore
from nanoschool.settings import load_run
from nanoschool.types import UserError


@dataclass(frozen=True)
class Origin:
    """Where weights are, and what is known of them before they are read."""

    start: Start
    model: Model  # their shape
    settings: Settings | None = None  # of the run that they are of


def find_start(spec: str, runs_dir: Path = Path("runs"), context: int = 0) -> Origin:
    """What `spec` names: RUN or RUN:STAGE of `runs_dir` (the last finished stage, unless one is named), a path to such
    a run, or a folder of weights. `context`: tokens that it is to see at once, 0 for as many as it can.

    Raises UserError where there is nothing of that name, or a model that we cannot run.
    """
    if not spec:
        raise UserError(
            "--from: name a run of yours, RUN or RUN:STAGE, or a folder of Qwen3 or Llama weights"
        )
    folder = Path(spec)
    if (folder / "config.json").is_file():
        model = _model(pretrained.read_config(folder, context))
        return Origin(Start(str(folder.absolute()), converses=False), model)
    name, _, stage = spec.partition(":") if not _is_run(Path(spec)) else (spec, "", "")
    run = Path(name) if _is_run(Path(name)) else existing_run(runs_dir, name)
    last, raw = finished_stage(run, stage or None)
    if last is None:
        raise UserError(f"run {run.name!r} has not finished its first stage; run it first")
    path = (run / "checkpoints" / last).absolute()
    model = _model(pretrained.read_config(_base(path), context, longest=MOST["model.context"]))
    return Origin(Start(str(path), converses=not raw), model, load_run(run))


def open_start(
    spec: str,
    runs_dir: Path = Path("runs"),
    *,
    ledger: Ledger | None = None,
    device: str = "cpu",
    context: int = 0,
    say: Callable[[str], None] = print,
) -> Policy:
    """The policy that `spec` names, as `find_start` reads it. UserError names what does not fit."""
    origin = find_start(spec, runs_dir, context)
    return open_weights(Path(origin.start.path), origin.model.context, ledger or Ledger(), device, say)


def open_weights(path: Path, context: int, ledger: Ledger, device: str, say: Callable[[str], None]) -> Policy:
    """The policy of a checkpoint of ours, verified, or of somebody else's folder of weights."""
    if not (path / MANIFEST).is_file():
        model, tokenizer = pretrained.open_pretrained(path, say, context)
        return Policy(model.to(device), tokenizer, ledger)
    try:
        saved = checkpoint.read(path)
    except Broken as reason:
        raise UserError(f"{reason}; name another start") from None
    config = replace(ModelConfig.from_hf(saved.config, str(path / "config.json")), context=context)
    policy = Policy(build(config).to(device), Tokenizer.load(path), ledger)
    restore(policy, saved)
    if config.lora:
        policy.model = merged(policy.model)
    return policy


def _is_run(path: Path) -> bool:
    return (path / "config.toml").is_file()


def _base(path: Path) -> Path:
    """Where a checkpoint's shape is told: of adapters, beside the weights that they adapt."""
    return path if (path / "config.json").is_file() else path.resolve().with_name(START)


def _model(config: ModelConfig) -> Model:
    return Model(depth=config.layers, context=config.context, vocab=config.vocab)
