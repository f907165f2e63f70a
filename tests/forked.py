"""Commands in processes of their own, forked from one that has imported torch: quick, and free to be killed."""

import contextlib
import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(
    ["torch._dynamo", "nanoschool.run", "nanoschool.report", "nanoschool.cli", "tyro"]
)
TOUCHES = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.symlink", "os.truncate")


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit status (below 0: the signal that killed it) and what it said."""

    status: int
    out: str
    err: str
    touches: int  # of the run's folder, where they were counted


@dataclass(frozen=True)
class Trouble:
    """What befalls the process: killed before its nth touch of `folder`, or files that cannot grow beyond `bytes`."""

    folder: str = ""
    touch: int = 0
    bytes: int = 0


def command(args: Sequence[str], trouble: Trouble | None = None, seconds: float = 120.0) -> Done:
    """Run `nanoschool ARGS` to its end; kill it after `seconds`."""
    with tempfile.TemporaryDirectory() as said:
        process = start(args, said, trouble)
        process.join(seconds)
        if process.is_alive() and process.pid:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        return ended(process, said)


def start(args: Sequence[str], said: str, trouble: Trouble | None = None) -> BaseProcess:
    """Begin `nanoschool ARGS`; what it says goes into files of the folder `said`."""
    process = FORK.Process(target=_main, args=(list(args), said, trouble or Trouble()))
    process.start()
    return process


def ended(process: BaseProcess, said: str) -> Done:
    def read(name: str) -> str:
        path = Path(said) / name
        return path.read_text(encoding="utf-8") if path.exists() else ""

    assert process.exitcode is not None
    return Done(process.exitcode, read("out"), read("err"), int(read("touches") or 0))


def _main(args: list[str], said: str, trouble: Trouble) -> None:
    """In the child."""
    with open(Path(said) / "out", "w") as out, open(Path(said) / "err", "w") as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
    sys.stdout, sys.stderr = open(1, "w", buffering=1), open(2, "w", buffering=1)  # noqa: SIM115 (until the end)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the fork server ignores it
    if trouble.bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (trouble.bytes, resource.RLIM_INFINITY))
    touches = 0

    def count(event: str, arguments: tuple) -> None:
        nonlocal touches
        if event in TOUCHES and trouble.folder in str(arguments):
            touches += 1
            if touches == trouble.touch:
                os.kill(os.getpid(), signal.SIGKILL)

    if trouble.folder:
        sys.addaudithook(count)
    from nanoschool.cli import main

    status = main(args)
    Path(said, "touches").write_text(str(touches))
    with contextlib.suppress(ValueError):
        sys.stdout.flush()
    os._exit(status)


def copy(run: Path, runs: Path) -> Path:
    """The run's folder, copied below another folder of runs, links and all."""
    return Path(shutil.copytree(run, runs / run.name, symlinks=True))


def weights(run: Path, stage: str = "rl") -> str:
    """SHA-256 of a stage's final weights."""
    return hashlib.sha256((run / "checkpoints" / stage / "model.safetensors").read_bytes()).hexdigest()


def told(run: Path) -> dict[str, Any]:
    """All that a finished run leaves, apart from what the clock says: to be compared with another's."""
    found: dict[str, Any] = {link.name: weights(run, link.name) for link in _links(run)}
    for name in ("metrics.jsonl", "samples.jsonl"):
        found[name] = [timeless(json.loads(line)) for line in (run / name).read_text().splitlines()]
    for path in sorted(run.glob("*.json")):
        found[path.name] = timeless(json.loads(path.read_text()))
    return found


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and its bytes, to see that nothing changed."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def flip(path: Path) -> None:
    """Turn one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _links(run: Path) -> list[Path]:
    return sorted(path for path in (run / "checkpoints").iterdir() if path.is_symlink())


def timeless(value: Any) -> Any:
    """The same without what the clock says."""
    if isinstance(value, dict):
        return {key: timeless(inside) for key, inside in value.items() if key != "seconds"}
    return [timeless(inside) for inside in value] if isinstance(value, list) else value
