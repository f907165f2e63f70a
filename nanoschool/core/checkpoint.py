"""Checkpoints: Hugging Face folders that are whole or not there.

A checkpoint is written beside its place, fsynced and renamed into it; manifest.json, written last, holds the
size and SHA-256 of every file, and its own. What is loaded is the bytes that were hashed. The folder opens in
transformers as it is; training.safetensors (optimizer) and state.json are ours. Nothing is pickled.
"""

import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
from torch import Tensor

from nanoschool.core import lora as adapters
from nanoschool.core.config import Lora
from nanoschool.core.files import (
    abandoned,
    explained,
    remove_folder,
    sync_folder,
    temporary_beside,
    write_atomic,
    write_synced,
)
from nanoschool.core.manifest import MANIFEST, Broken, as_json, manifest_of, read_manifest, read_whole

if TYPE_CHECKING:
    from nanoschool.core.tokenizer import Tokenizer

__all__ = ["Broken", "Checkpoint", "newest", "point", "prune", "read", "verify", "write", "write_atomic"]

REPLACED = ".replaced"  # ends the name of a checkpoint that steps aside for a new one of its name

BASE = "start"  # the checkpoint whose weights the adapters beside it are of


@dataclass(frozen=True)
class Checkpoint:
    path: Path
    config: dict[str, Any]  # config.json of the model
    weights: dict[str, Tensor]  # by Hugging Face's names; no lm_head where it is tied
    training: dict[str, Tensor]  # optimizer state, by the trainer's names
    state: dict[str, Any]  # the rest of the trainer's state, plain JSON
    serial: int  # checkpoints of one root are numbered in the order of writing


def write(
    root: Path,
    name: str,
    *,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    tokenizer: "Tokenizer",
    training: Mapping[str, Tensor],
    state: Mapping[str, Any],
    lora: Lora | None = None,
) -> Path:
    """Write the checkpoint `root/name`: all of it or nothing, whenever it is killed; the others stay whole.

    With `lora` only the adapters of `weights` are written, beside the checkpoint `root/start` that they adapt.
    `state` is plain JSON (a tuple comes back as a list, a key as a string). UserError when the disk is full or the
    folder cannot be written; the earlier checkpoints still load then.
    """
    root, weights = Path(root), dict(weights)
    if config.get("tie_word_embeddings"):
        weights.pop("lm_head.weight", None)  # the same matrix as the embedding: saved once
    model = {"config.json": as_json(config), "model.safetensors": _tensors(weights)}
    files = {
        **(adapters.files(lora, weights, str((root / BASE).absolute())) if lora else model),
        **tokenizer.files(),
        "training.safetensors": _tensors(training),
        "state.json": as_json(state),
    }
    target, temporary = root / name, temporary_beside(root / name)
    with explained(target):
        root.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir()
            for file, data in files.items():
                write_synced(temporary / file, data)
            serial = max(_survey(root)[0].values(), default=0) + 1
            write_synced(temporary / MANIFEST, manifest_of(files, name, serial))
            sync_folder(temporary)
            _take_place(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)  # a full disk needs the room
            raise
    return target


def verify(path: Path) -> None:
    """Raise `Broken`, naming the file, unless every file is as it was written."""
    read_whole(Path(path))


def read(path: Path) -> Checkpoint:
    """Load a checkpoint, verified first. Raises Broken; UserError where another version wrote it."""
    path = Path(path)
    manifest, files = read_whole(path)
    if adapters.CONFIG in files:
        base = read(path.resolve().with_name(BASE))  # not by its path of then: a run's folder may be moved
        _, spec, own = adapters.read(files)
        config, weights = base.config | {"lora": spec}, base.weights | own
    else:
        config = json.loads(files["config.json"])
        weights = safetensors.torch.load(files["model.safetensors"])
    return Checkpoint(
        path=path,
        config=config,
        weights=weights,
        training=safetensors.torch.load(files["training.safetensors"]),
        state=json.loads(files["state.json"]),
        serial=manifest["serial"],
    )


def newest(
    root: Path, say: Callable[[str], None], fit: Callable[[Checkpoint], None] = lambda found: None
) -> Checkpoint | None:
    """The newest whole checkpoint, or None; `say` gets one line that names the broken ones passed over.

    `fit` raises Broken, naming a file, to pass over a checkpoint that is whole and yet of no use.
    """
    known, broken = _survey(Path(root))
    found: Checkpoint | None = None
    for path in sorted(known, key=lambda p: -known[p]):
        try:
            saved = read(path)
            fit(saved)
            found = saved
            break
        except Broken as reason:
            broken.append(reason)
    if broken:
        named = ", ".join(dict.fromkeys(f"{b.path.parent.name} ({b.path.name} {b.reason})" for b in broken))
        use = f"using {found.path.name}" if found else "no whole one is left"
        say(f"{root}: passed over broken checkpoints: {named}; {use}")
    return found


def point(root: Path, link: str, target: str) -> None:
    """Make `root/link` a relative symlink to the checkpoint `target`, replacing any other in one step."""
    path = Path(root) / link
    with explained(path):
        os.stat(Path(root) / target)
        temporary = temporary_beside(path)
        for left in path.parent.glob(f".tmp-{link}-*"):  # by a kill
            if left.is_symlink() and abandoned(left):  # a folder is a checkpoint half written
                left.unlink()
        if path.is_dir() and not path.is_symlink():  # a copy of the run that followed its links
            remove_folder(path)
        os.symlink(target, temporary, target_is_directory=True)
        os.replace(temporary, path)
        sync_folder(path.parent)


def prune(root: Path, keep: int, spare: Collection[str] = ()) -> list[str]:
    """Delete all but the `keep` newest checkpoints, those a symlink points to and those named in `spare`; return
    the names of what went.

    Folders with an unreadable manifest are neither counted nor deleted: they are the user's to look at. What
    a killed process left half written goes.
    """
    root = Path(root)
    if keep < 1:
        raise ValueError(f"keep must be at least 1, not {keep}")
    known, _ = _survey(root)
    with explained(root):
        linked = {p.resolve() for p in root.glob("[!.]*") if p.is_symlink()}
        old = sorted(known, key=lambda p: -known[p])[keep:]
        doomed = [path for path in old if path.resolve() not in linked and path.name not in spare]
        for path in doomed + [p for p in root.glob(".tmp-*") if abandoned(p)]:
            if path.is_dir() and not path.is_symlink():
                remove_folder(path)
            else:
                path.unlink()
    return [path.name for path in doomed]


def _survey(root: Path) -> tuple[dict[Path, int], list[Broken]]:
    """The checkpoints of `root` with their serials, and those without a readable manifest, who have none.

    A second copy under another name is what became of a link when the run was copied: it is not counted.
    """
    numbers, broken = {}, []
    for path in sorted(root.glob("[!.]*")):
        if path.is_dir() and not path.is_symlink():
            try:
                manifest = read_manifest(path)
                own = manifest["name"] == path.name.removesuffix(REPLACED)
                if own or not (root / manifest["name"]).is_dir():
                    numbers[path] = manifest["serial"]
            except Broken as reason:
                broken.append(reason)
    return numbers, broken


def _take_place(temporary: Path, target: Path) -> None:
    """Rename into place; an earlier checkpoint of that name steps aside meanwhile, still seen by `newest`."""
    aside = target.with_name(target.name + REPLACED)
    if target.exists():
        if aside.exists():
            remove_folder(aside)
        os.rename(target, aside)
    os.rename(temporary, target)
    sync_folder(target.parent)
    if aside.exists():
        remove_folder(aside)


def _tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """safetensors wants each tensor contiguous and alone in its memory."""
    alone = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    return safetensors.torch.save(alone, metadata={"format": "pt"})
