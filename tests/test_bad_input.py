"""Bad input: one clear line, exit status 2, and nothing is lost."""

import json
import os
import re
import shlex
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import forked
import pytest
import safetensors.torch
import torch

from nanoschool.cli import main
from nanoschool.core import checkpoint
from nanoschool.folder import Folder
from nanoschool.settings import presets

PREFIX = re.compile(r"nanoschool( [a-z]+)?( \S+)?: (?!nanoschool)")  # who speaks, once

LINE = '{"text": "a line of text"}\n'


def refused(args: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """The one line that a mistake gets."""
    capfd.readouterr()
    assert main(args) == 2
    err = capfd.readouterr().err
    assert PREFIX.match(err) and err.endswith("\n") and err.count("\n") == 1, err
    return err


def refused_apart(args: list[str], trouble: forked.Trouble | None = None) -> str:
    """The same, of a command that may have begun its work."""
    done = forked.command(args, trouble)
    assert done.status == 2, done
    assert PREFIX.match(done.err) and done.err.count("\n") == 1, done.err
    return done.err


def make(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


TEXTS: dict[str, tuple[dict[str, bytes | str], str, str]] = {  # files, what is named by --text, what is said
    "a missing path": ({}, "nowhere", "nowhere: no such file or folder"),
    "an empty folder": ({"x/.hidden.txt": "a"}, "x", "x: holds no .txt, .md, .jsonl, .jsonl.gz, .parquet file"),
    "a binary file": ({"x/a.txt": b"good text\0"}, "x", "a.txt: is binary (a zero byte at byte offset 9)"),
    "not UTF-8": ({"x/a.txt": "b" * 40 + "\n", "x/b.md": b"caf\xe9"}, "x", "b.md: is not UTF-8 text at byte offset 3"),
    "a line that is no JSON": ({"a.jsonl": LINE + "{oops\n"}, "a.jsonl", "a.jsonl:2: is not JSON"),
    "a line without text": ({"a.jsonl": LINE * 2 + '{"body": 1}\n'}, "a.jsonl", 'a.jsonl:3: has no "text"'),
    "text shorter than one context": ({"a.txt": "hello world\n" * 9}, "a.txt", "shorter than one context of 96"),
    "no text at all": ({"a.txt": ""}, "a.txt", "holds 0 bytes of text"),
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS)
def test_text_that_cannot_be_read(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files, text, said = TEXTS[case]
    make(tmp_path, files)
    runs = tmp_path / "runs"
    flags = ["--mix.rules", "0", "--runs-dir", str(runs), "--text"]
    assert said in refused(["run", "nano", *flags, str(tmp_path / text)], capfd)
    assert not (runs / "nano" / "config.toml").exists()


def test_a_reward_that_cannot_be_loaded_stops_a_run_before_it_begins(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ["--runs-dir", str(tmp_path), "--rl.reward"]
    assert "there is no such file" in refused(["run", "nano", *flags, f"{tmp_path}/nofile.py:score"], capfd)
    assert not (tmp_path / "nano" / "config.toml").exists()


def test_a_budget_in_a_unit_that_is_never_spent_ends(tmp_path: Path) -> None:
    said = refused_apart(["run", "nano", "--runs-dir", str(tmp_path), "--pretrain.budget", "rollouts=10"])
    assert "pretrain: none of its budget of rollouts is spent after 20 steps" in said


def test_who_is_asked_about_lives_where_is_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["--runs-dir", str(tmp_path), "--worlds.recall.facts.people", "120"]
    said = refused(["run", "laptop", *flags], capfd)
    assert "world 'recall' asks about another town than 'facts' tells of; give worlds.recall.facts" in said


def test_the_name_of_a_run_that_was_refused_is_free(tmp_path: Path) -> None:
    flags = ["run", "nano", "--stages", "pretrain", "--mix.rules", "0", "--runs-dir", str(tmp_path), "--text"]
    assert "no such file" in refused_apart([*flags, str(tmp_path / "godo.txt")])
    good = tmp_path / "good.txt"
    good.write_text("".join(f"Line {n} of a good text.\n" for n in range(400)))
    done = forked.command([*flags, str(good)])
    assert done.status == 0, done.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"stages = [": 'stages = ["sfo", '},
            "stages has 'sfo', but there is no such table: did you mean sft?",
        ),
        ({"depth = 1": "detph = 1"}, "unknown key 'detph': did you mean depth?"),
        ({'env = "digit"': ""}, "rloo practises in a world"),
        ({"worlds = [": 'worlds = ["chain"] #'}, "add 'digit', practised in, to [evaluation] worlds"),
        ({"tokens=20e3": "tokens=0"}, "pretrain: budget 'tokens=0': must be above 0"),
        ({"digit = 0.92": "", "rules = 0.08 #": ""}, "sft draws on [taught], which names no world"),
        ({"problems = 8\nlook": "problems = 90\nlook"}, "world sums: found only"),
        ({"context = 96": "context = 40"}, "a demonstration has"),
        ({"vocab = 320": "vocab = 264"}, "symbols"),
        (
            {"digit = 0.92": "digit = 0.92\nquestions = 0.1"},
            "world 'questions' has no demonstrations to imitate",
        ),
        ({"chain = 0.04": "chain = 0.04\nquestions = 0.1"}, "world 'questions' has no documents to read"),
        ({'["pretrain", ': '["pretrain", "pretrain", '}, "stages"),
        ({'["pretrain", ': '["not a name", '}, "not a name"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_before_anything_is_spent(
    change: dict[str, str],
    said: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = presets()["nano"].read_text().replace("rules = 0.08\n\n", "rules = 0.08 #\n\n", 1)
    for old, new in change.items():
        assert old in text, old
        text = text.replace(old, new, 1)
    settings = make(tmp_path, {"mine.toml": text}) / "mine.toml"
    bare = type("Bare", (), {"name": "questions", "replayable": True})()  # a world that can only be played
    load = __import__("nanoschool.envs").envs.load
    monkeypatch.setattr("nanoschool.envs.load", lambda name: bare if name == "questions" else load(name))
    assert said in refused(["run", str(settings), "--runs-dir", str(tmp_path / "runs")], capfd)
    assert not list((tmp_path / "runs").glob("*/config.toml"))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "nanno"], "no preset 'nanno': did you mean nano?"),
        (["run", "nano", "--pretrain.buget", "1"], "did you mean --pretrain.budget?"),
        (["run", "nano", "--rl.budget", "rollouts=0"], "must be above 0"),
        (["run", "nano", "--device", "tpu"], "device 'tpu' is not on this machine"),
        (["run", "nano", "--name", "a/b"], "is no name of a folder"),
        (["run", "nano", "--text", ""], "an argument is empty, after '--text'"),
        (["run", "nano", "--evaluation.problems", "99999999"], "problems"),
    ],
)
def test_a_wrong_word(args: list[str], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert said in refused([*args, "--runs-dir", str(tmp_path)], capfd)
    assert not list(tmp_path.glob("*/config.toml"))


def test_a_runs_folder_that_cannot_be_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nano").write_text("in the way")  # root may write anywhere, but not in a file
    assert "cannot be written" in refused(["run", "nano", "--runs-dir", str(tmp_path / "nano")], capfd)
    assert "cannot be written" in refused(["run", "nano", "--runs-dir", str(tmp_path)], capfd)
    assert (tmp_path / "nano").read_text() == "in the way"


def test_a_disk_that_is_full_in_the_middle_of_a_checkpoint(nano: Path, tmp_path: Path) -> None:
    sizes = [
        (nano / "checkpoints" / "rl" / f"{name}.safetensors").stat().st_size for name in ("model", "training")
    ]
    args = ["run", "nano", "--runs-dir", str(tmp_path)]
    said = refused_apart(
        args, forked.Trouble(bytes=sum(sizes) // 2)
    )  # weights fit, Adam's two moments do not
    assert "disk full" in said and "run the same command again" in said
    saved = checkpoint.newest(tmp_path / "nano" / "checkpoints", pytest.fail)
    assert saved is not None and not list((tmp_path / "nano" / "checkpoints").glob(".tmp-*"))
    done = forked.command(args)
    assert done.status == 0 and f"goes on from {saved.path.name}" in done.out
    assert forked.told(tmp_path / "nano") == forked.told(nano)


@pytest.fixture
def stopped(nano: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    """A run killed in its last stage, and the command that goes on."""
    run = forked.copy(nano, tmp_path)
    for path in (run / "checkpoints").iterdir():
        if path.name == "rl":
            path.unlink()
        elif not path.is_symlink() and path.name.startswith("rl-") and checkpoint.read(path).state["done"]:
            shutil.rmtree(path)
    return run, ["run", "nano", "--runs-dir", str(tmp_path)]


def newest(run: Path) -> Path:
    found = checkpoint.newest(run / "checkpoints", pytest.fail)
    assert found is not None
    return found.path


@pytest.mark.parametrize("file", ["model.safetensors", "state.json", "manifest.json"])
def test_one_flipped_bit_is_named_and_an_older_checkpoint_is_used(
    file: str, stopped: tuple[Path, list[str]], nano: Path
) -> None:
    run, args = stopped
    broken = newest(run)
    forked.flip(broken / file)
    done = forked.command(args)
    assert done.status == 0, done.err
    assert (
        f"passed over broken checkpoints: {broken.name} ({file} " in done.out and "goes on from" in done.out
    )
    assert forked.told(run) == forked.told(nano)


def test_a_broken_best_is_not_graduated_but_made_anew(stopped: tuple[Path, list[str]], nano: Path) -> None:
    run, args = stopped
    found = checkpoint.read(newest(run))
    best = run / "checkpoints" / found.state["best"]["name"]
    assert best != found.path
    forked.flip(best / "model.safetensors")
    done = forked.command(args)
    assert done.status == 0, done.err
    assert f"{best.name} (model.safetensors " in done.out
    assert forked.told(run) == forked.told(nano)


def test_when_every_checkpoint_is_broken_nothing_is_started_over(
    stopped: tuple[Path, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    run, args = stopped
    for path in (run / "checkpoints").iterdir():
        if not path.is_symlink():
            forked.flip(path / "model.safetensors")
    before = forked.files(run)
    assert "no whole one is left; restore it, or give the run another --name" in refused(args, capfd)
    assert forked.files(run) == before


def test_checkpoints_that_are_gone_are_not_made_anew_in_silence(
    stopped: tuple[Path, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    run, args = stopped
    shutil.rmtree(run / "checkpoints")
    before = forked.files(run)
    assert "its checkpoints are gone" in refused(args, capfd)
    assert forked.files(run) == before


@pytest.mark.parametrize("file", ["tokenizer/tokenizer.json", "config.toml"])
def test_what_a_run_began_with_cannot_be_exchanged(
    file: str, stopped: tuple[Path, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    run, args = stopped
    text = (run / file).read_text()
    (run / file).write_text(text.replace("look = ", "look = 1", 1) if "toml" in file else text + "\n")
    before = forked.files(run)
    assert f"{file}: is not what was written (SHA-256 differs); restore it" in refused(
        [*args[:1], str(run / "config.toml"), *args[2:]], capfd
    )
    assert forked.files(run) == before


def test_lines_that_were_lost_are_said(stopped: tuple[Path, list[str]]) -> None:
    run, args = stopped
    (run / "metrics.jsonl").write_text("")
    done = forked.command(args)
    assert done.status == 0
    assert "metrics.jsonl: is shorter than when the checkpoint was written" in done.out


def test_an_exam_that_is_gone_is_missed_before_the_next_stage(
    stopped: tuple[Path, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    run, args = stopped
    (run / "exam-pretrain.json").unlink()
    before = forked.files(run)
    assert "exam-pretrain.json: is missing" in refused(args, capfd)
    assert forked.files(run) == before


def test_settings_that_are_gone_are_not_guessed(
    stopped: tuple[Path, list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    run, args = stopped
    (run / "config.toml").unlink()
    before = forked.files(run)
    assert "has checkpoints but no config.toml" in refused(args, capfd)
    assert forked.files(run) == before


@pytest.mark.parametrize(
    ("flags", "old", "new", "said"),
    [
        (["--seed", "2", "--rl.method.lr", "1"], "", "", "other settings (seed: 1, now 2; rl.method.lr: 0.0004, now 1.0)"),
        ([], "version = 1", "version = 99", "config.toml: is of version 99, this nanoschool writes 1"),
        ([], "seed = 1", "seed = ", "config.toml: cannot be read as TOML"),
    ],
)  # fmt: skip
def test_another_runs_folder_is_left_as_it_is(
    flags: list[str],
    old: str,
    new: str,
    said: str,
    nano: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = forked.copy(nano, tmp_path)
    config = run / "config.toml"
    config.write_text(config.read_text().replace(old, new, 1))
    before = forked.files(run)
    assert said in refused(["run", "nano", "--runs-dir", str(tmp_path), *flags], capfd)
    assert forked.files(run) == before


def test_a_checkpoint_of_another_format_is_refused(
    nano: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = forked.copy(nano, tmp_path)
    monkeypatch.setattr("nanoschool.core.manifest.FORMAT", 2)
    before = forked.files(run)
    assert "checkpoint format 1, but this program reads format 2" in refused(
        ["run", "nano", "--runs-dir", str(tmp_path)], capfd
    )
    assert forked.files(run) == before


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_a_loss_that_is_no_number(stage: str, tmp_path: Path) -> None:
    flags = [f"--{stage}.method.lr", "1e38", f"--{stage}.save", "1"]
    said = refused_apart(["run", "nano", "--runs-dir", str(tmp_path), *flags])
    run = tmp_path / "nano"
    assert f"{stage} step 1: " in said and ("not finite" in said or "loss is" in said)
    path = run / f"diverged-{stage}-000001.safetensors"
    assert f"the batch is in {path}" in said
    batch = safetensors.torch.load_file(path)
    assert {"tokens", "mask", "weights", "logprobs", "lengths"} <= batch.keys()
    assert batch["tokens"].shape == batch["mask"].shape and batch["mask"].any()
    good = run / "checkpoints" / f"{stage}-000000"
    assert f"the last good checkpoint is {good}; try a lower method.lr" in said
    assert all(
        torch.isfinite(x).all() and x.abs().max() < 1e3 for x in checkpoint.read(good).weights.values()
    )


def test_ctrl_c_writes_a_checkpoint_and_the_command_it_says_goes_on(nano: Path, tmp_path: Path) -> None:
    runs = tmp_path / "my runs"  # the space must not break the command
    with tempfile.TemporaryDirectory() as said:
        process = forked.start(["run", "nano", "--runs-dir", str(runs)], said)
        _wait(lambda: _lines(runs / "nano" / "metrics.jsonl") > 3)
        assert process.pid
        os.kill(process.pid, signal.SIGINT)
        process.join(60)
        done = forked.ended(process, said)
    assert done.status == 130, done
    assert done.err.count("\n") == 1
    saved = checkpoint.newest(runs / "nano" / "checkpoints", pytest.fail)
    assert saved is not None and saved.state["step"] > 0
    command = shlex.split(done.err.partition("goes on where it was: ")[2])
    assert command[0] == "nanoschool"
    again = forked.command(command[1:])
    assert again.status == 0 and f"goes on from {saved.path.name}" in again.out
    assert forked.told(runs / "nano") == forked.told(nano)


def test_two_processes_on_one_run(nano: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run, args = forked.copy(nano, tmp_path), ["run", "nano", "--runs-dir", str(tmp_path)]
    before = forked.files(run)
    with Folder(run):
        assert "another process is working on this run" in refused(args, capfd)
    assert forked.files(run) == before
    assert forked.command(args).status == 0


def test_another_machine_is_refused_unless_allowed(nano: Path, tmp_path: Path) -> None:
    run, args = forked.copy(nano, tmp_path), ["run", "nano", "--runs-dir", str(tmp_path)]
    known = json.loads((run / "machine.json").read_text())
    (run / "machine.json").write_text(json.dumps(known | {"processor": "AVX9", "device": "cuda"}))
    before = forked.files(run)
    said = refused_apart(args)
    assert "processor: AVX9, now" in said and "device: cuda, now cpu" in said and "--allow-inexact" in said
    assert forked.files(run) == before
    assert forked.command([*args, "--allow-inexact"]).status == 0
    moved = json.loads((run / "machine.json").read_text())
    assert moved == known | {"moved": [{"processor": "AVX9", "device": "cuda"}]}
    assert forked.command(args).status == 0  # now it is this machine's


@pytest.mark.parametrize("file", ["exam-sft.json", "machine.json"])
def test_a_file_of_the_run_that_is_damaged_or_gone_is_named(
    file: str, nano: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run, args = forked.copy(nano, tmp_path), ["run", "nano", "--runs-dir", str(tmp_path)]
    (run / file).write_text("{")
    assert f"{file}: is not what was written" in refused(args, capfd)
    (run / file).unlink()
    assert f"{file}: is missing" in refused(args, capfd)


def test_half_a_line_is_none(stopped: tuple[Path, list[str]], nano: Path) -> None:
    """A disk that filled under a line left half of it; the file that goes on holds whole lines only."""
    run, args = stopped
    lines = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").write_bytes(lines[: len(lines) // 2])
    assert forked.command(args).status == 0
    for line in (run / "metrics.jsonl").read_text().splitlines():
        json.loads(line)


def test_a_copy_that_followed_the_links_goes_on(
    stopped: tuple[Path, list[str]], nano: Path, tmp_path: Path
) -> None:
    run, _ = stopped
    checkpoint.point(run / "checkpoints", "best", newest(run).name)
    copied = tmp_path / "copied" / "nano"
    shutil.copytree(run, copied, symlinks=False)
    done = forked.command(["run", "nano", "--runs-dir", str(copied.parent)])
    assert done.status == 0, done.err
    assert (copied / "checkpoints" / "best").is_symlink()
    copies = {"pretrain", "sft"}  # the same files, and no links
    assert forked.told(copied) == {k: v for k, v in forked.told(nano).items() if k not in copies}


def test_sigterm_before_the_first_step_is_an_interruption(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as said:
        process = forked.start(["run", "nano", "--runs-dir", str(tmp_path)], said)
        _wait(lambda: (tmp_path / "nano" / ".lock").exists())
        assert process.pid
        os.kill(process.pid, signal.SIGTERM)
        process.join(60)
        done = forked.ended(process, said)
    assert done.status == 130 and done.err.count("\n") == 1, done
    assert forked.command(["run", "nano", "--runs-dir", str(tmp_path)]).status == 0


def test_a_folder_where_the_report_belongs(
    nano: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = forked.copy(nano, tmp_path)
    (run / "report.html").unlink()
    (run / "report.html").mkdir()
    assert "report.html" in refused(["report", "nano", "--runs-dir", str(tmp_path)], capfd)


def _lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def _wait(until: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.01)
