"""Nothing is lost: killed at any moment, on a full disk, with a flipped bit, the newest whole checkpoint is found."""

import json
import multiprocessing
import multiprocessing.synchronize
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import torch

from nanoschool.core import checkpoint
from nanoschool.core.checkpoint import Broken, newest, point, prune, read, verify, write, write_atomic
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.types import UserError

TOKENIZER = Tokenizer.train(["hello world, 1 2 3\n"] * 20, 280)
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["torch", "nanoschool.core.checkpoint", "nanoschool.core.tokenizer"])


def save(root: Path, step: int, name: str = "", size: int = 8, tied: bool = True) -> Path:
    """A checkpoint in which every tensor and the state say the step, so that a mixture of two would be seen."""
    value = torch.full((size,), float(step))
    weights = {"model.embed_tokens.weight": value, "model.norm.weight": value[:3], "lm_head.weight": value}
    return write(
        root,
        name or f"pretrain-{step:06d}",
        config={"model_type": "qwen3", "tie_word_embeddings": tied},
        weights=weights,
        tokenizer=TOKENIZER,
        training={"momentum": value.reshape(2, -1).T, "count": torch.tensor(step)},
        state={"step": step, "half": 0.1},
    )


def silent(line: str) -> None:
    raise AssertionError(f"nothing is broken, yet it said: {line}")


def last_step(root: Path, say: Callable[[str], None] = silent) -> int:
    """The step of the newest checkpoint, every part of which must agree on it."""
    found = newest(root, say)
    if found is None:
        return 0
    tensors = [*found.weights.values(), *found.training.values()]
    assert {float(x) for t in tensors for x in t.flatten()} == {float(found.state["step"])}
    return found.state["step"]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "new" / "folder", 3)
    found = read(path)
    assert path == tmp_path / "new" / "folder" / "pretrain-000003" == found.path
    assert found.state == {"step": 3, "half": 0.1} and found.serial == 1
    assert torch.equal(found.training["momentum"], torch.full((4, 2), 3.0))
    assert found.training["count"].item() == 3 and found.training["count"].dtype == torch.int64
    assert Tokenizer.load(path).encode("hello 12") == TOKENIZER.encode("hello 12")
    manifest = json.loads((path / "manifest.json").read_text())
    assert set(manifest["files"]) | {"manifest.json"} == {p.name for p in path.iterdir()}
    assert {"config.json", "tokenizer.json", "chat_template.jinja", "generation_config.json"} <= set(
        manifest["files"]
    )
    assert not list(tmp_path.rglob(".tmp-*"))


def test_tied_weights_are_saved_once(tmp_path: Path) -> None:
    tied, untied = save(tmp_path, 1), save(tmp_path, 2, tied=False)
    for path, expected in ((tied, False), (untied, True)):
        with safetensors.safe_open(path / "model.safetensors", "pt") as file:
            assert ("lm_head.weight" in file.keys()) is expected and file.metadata() == {"format": "pt"}  # noqa: SIM118


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = save(tmp_path / "a", 1), save(tmp_path / "b", 1)
    assert all((two / p.name).read_bytes() == p.read_bytes() for p in one.iterdir())


def test_newest_is_the_last_written_whatever_its_name(tmp_path: Path) -> None:
    assert newest(tmp_path, silent) is None and newest(tmp_path / "absent", silent) is None
    for step, name in ((1, "sft-000001"), (2, "pretrain-000009"), (3, "rl-000002")):
        save(tmp_path, step, name)
        assert last_step(tmp_path) == step
    save(tmp_path, 4, "pretrain-000009")  # written anew, in place of the older one
    assert last_step(tmp_path) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pretrain-000009", "rl-000002", "sft-000001"]


def test_one_flipped_bit_in_any_file_is_found_and_named(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path, rng = save(tmp_path, 2), random.Random(0)
    for file in sorted(path.iterdir()):
        data = file.read_bytes()
        for offset in {0, len(data) - 1, *(rng.randrange(len(data)) for _ in range(20))}:
            flipped = bytearray(data)
            flipped[offset] ^= 1 << rng.randrange(8)
            file.write_bytes(flipped)
            with pytest.raises(Broken) as broken:
                verify(path)
            assert broken.value.path == file and "SHA-256" in broken.value.reason
        said: list[str] = []
        assert last_step(tmp_path, said.append) == 1
        assert len(said) == 1 and "\n" not in said[0]
        assert f"pretrain-000002 ({file.name} " in said[0] and "using pretrain-000001" in said[0]
        file.write_bytes(data)
    assert last_step(tmp_path) == 2


def test_a_missing_and_a_short_file_are_named(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    for file in sorted(path.iterdir()):
        data = file.read_bytes()
        file.write_bytes(data[:-1])
        with pytest.raises(Broken) as broken:
            verify(path)
        assert broken.value.path == file
        file.unlink()
        with pytest.raises(Broken, match="is missing"):
            verify(path)
        file.write_bytes(data)
    verify(path)


def test_when_none_is_whole_it_says_so(tmp_path: Path) -> None:
    for step in (1, 2):
        (save(tmp_path, step) / "config.json").unlink()
    (tmp_path / "stray").mkdir()
    said: list[str] = []
    assert newest(tmp_path, said.append) is None
    assert len(said) == 1 and "no whole one is left" in said[0]
    assert all(
        name in said[0] for name in ("pretrain-000001", "pretrain-000002", "stray (manifest.json is missing)")
    )


def test_another_format_is_refused_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    with monkeypatch.context() as later:
        later.setattr("nanoschool.core.manifest.FORMAT", 2)
        save(tmp_path / "later", 2)
    with pytest.raises(UserError, match=r"checkpoint format 2, but this program reads format 1"):
        newest(tmp_path / "later", silent)


def test_links_are_relative_and_move_in_one_step(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path / "a", step)
        point(tmp_path / "a", "best", f"pretrain-{step:06d}")
    assert os.readlink(tmp_path / "a" / "best") == "pretrain-000002"
    (tmp_path / "a").rename(tmp_path / "b")
    assert read(tmp_path / "b" / "best").state["step"] == 2 and last_step(tmp_path / "b") == 2
    with pytest.raises(UserError, match="pretrain-000007"):
        point(tmp_path / "b", "best", "pretrain-000007")
    assert read(tmp_path / "b" / "best").state["step"] == 2


def test_prune_keeps_the_newest_the_linked_and_what_is_not_ours(tmp_path: Path) -> None:
    for step in range(1, 7):
        save(tmp_path, step)
    point(tmp_path, "best", "pretrain-000002")
    point(tmp_path, "pretrain", "pretrain-000006")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name in (f".tmp-pretrain-000007-{gone.pid}", f".tmp-rl-000001-{os.getpid()}"):
        (tmp_path / name).mkdir()
    (tmp_path / f".tmp-best-{gone.pid}").symlink_to("pretrain-000001")
    (tmp_path / f".tmp-another-{os.getppid()}").mkdir()  # its process lives: it may be at work
    (tmp_path / "notes").mkdir()
    assert sorted(prune(tmp_path, 2)) == ["pretrain-000001", "pretrain-000003", "pretrain-000004"]
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {
        *("best", "pretrain", "notes", f".tmp-another-{os.getppid()}"),
        *("pretrain-000002", "pretrain-000005", "pretrain-000006"),
    }
    assert prune(tmp_path, 2) == [] == prune(tmp_path / "absent", 1)
    with pytest.raises(ValueError, match="at least 1"):
        prune(tmp_path, 0)


def keep_saving(root: Path, ready: multiprocessing.synchronize.Event) -> None:
    step = last_step(root)
    ready.set()
    while True:
        step += 1
        save(root, step, f"pretrain-{(step + 1) // 2:06d}", size=2000)  # every other one replaces its elder
        point(root, "best", f"pretrain-{(step + 1) // 2:06d}")
        prune(root, 2)


@pytest.mark.soak
def test_killed_at_random_moments_the_newest_is_whole(tmp_path: Path) -> None:
    rng, before, start = random.Random(3), 0, time.perf_counter()
    save(tmp_path / "timed", 1, size=2000)
    span = time.perf_counter() - start  # a busy machine must not turn these into kills before the first write
    for _ in range(25):
        ready = FORK.Event()
        process = FORK.Process(target=keep_saving, args=(tmp_path / "run", ready))
        process.start()
        assert ready.wait(60)
        time.sleep(rng.uniform(0.0, 6 * span))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        after = last_step(tmp_path / "run")
        assert after >= before
        before = after
    assert before > 10
    prune(tmp_path / "run", 1)
    assert not list((tmp_path / "run").glob(".tmp-*"))


def die_at(root: Path, moment: int) -> None:
    """Write one checkpoint in place of an older one; die just before the `moment`-th touch of the file system."""
    touches = 0

    def count(event: str, args: tuple) -> None:
        nonlocal touches
        if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.symlink") and str(
            root
        ) in str(args):
            touches += 1
            if touches == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    save(root, 3, "pretrain-000002")
    point(root, "best", "pretrain-000002")
    prune(root, 1)


def test_killed_before_every_single_touch_of_the_disk_the_newest_is_whole(tmp_path: Path) -> None:
    steps = []
    for moment in range(1, 200):
        root = tmp_path / str(moment)
        save(root, 1)
        save(root, 2)
        process = FORK.Process(target=die_at, args=(root, moment))
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        steps.append(last_step(root))
        if process.exitcode == 0:
            break
        save(root, 4, "pretrain-000002")  # the same command again
        assert last_step(root) == 4
        prune(root, 1)
        assert {p.name for p in root.iterdir()} == {"best", "pretrain-000002"} - (
            {"best"} - set(os.listdir(root))
        )
    assert process.exitcode == 0 and len(steps) > 20
    assert steps == sorted(steps) and set(steps) == {
        2,
        3,
    }  # all of the new one from one moment on, never less than 2


FILL = """
import resource, sys
sys.path[:0] = [{tests!r}, {project!r}]
from pathlib import Path
from test_checkpoint import save
from nanoschool.types import UserError
root = Path(sys.argv[1])
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    for step in range(1, 50):
        save(root, step, size=8 if step < 3 else 20_000)
except UserError as error:
    print(step, error)
    from nanoschool.core.checkpoint import newest
    print(newest(root, print).state["step"])
    print([p.name for p in root.glob(".tmp-*")])
"""


def run_until_full(command: list[str], root: Path, how: str) -> list[str]:
    program = FILL.format(tests=str(Path(__file__).parent), project=str(Path(checkpoint.__file__).parents[2]))
    done = subprocess.run(
        [*command, sys.executable, "-c", program, str(root), how], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_file_that_cannot_grow_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    message, step, temporary = run_until_full([], tmp_path, "limit")
    assert message.startswith("3 ") and step == "2" and temporary == "[]"
    assert str(tmp_path / "pretrain-000003") in message and "disk full: File too large" in message
    assert last_step(tmp_path) == 2


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o size=1m tmpfs {tmp_path} && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", mount, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip(
            "needs the right to mount a small tmpfs (unshare -rm); the file size limit is tested instead"
        )
    message, step, temporary = run_until_full(command, tmp_path, "disk")
    failed = int(message.split()[0])
    assert failed > 3 and step == str(failed - 1) and temporary == "[]"
    assert (
        f"{tmp_path}/pretrain-{failed:06d}: cannot be written (disk full: No space left on device" in message
    )
    assert "free some space" in message


def test_a_folder_that_cannot_be_written_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        UserError, match=r"file/checkpoints/pretrain-000001: cannot be written \(Not a directory"
    ):
        save(tmp_path / "file" / "checkpoints", 1)
    with pytest.raises(UserError, match="cannot be written"):
        write_atomic(tmp_path / "file" / "summary.json", b"{}")
    with pytest.raises(UserError, match="Is a directory"):
        write_atomic(tmp_path, b"{}")


def test_write_atomic_replaces_or_leaves(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "summary.json"
    write_atomic(path, b"one")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(UserError, match="disk full"):
            write_atomic(path, b"x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"one" and [p.name for p in path.parent.iterdir()] == ["summary.json"]
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
