"""The command line: help is fast, without torch; a mistake gets one line and status 2; Ctrl-C 130 and the way on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nanoschool import __version__
from nanoschool.cli import COMMANDS, main
from nanoschool.settings import load_settings, to_toml

COMMAND = [sys.executable, "-m", "nanoschool"]


@pytest.fixture
def runs(tmp_path) -> Path:
    """A folder of runs with the settings of one in it, and nothing else."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "config.toml").write_text(to_toml(load_settings("nano", ["--name", "first"])))
    return tmp_path


def mistake(args: list[str], capfd) -> str:
    """The one line that a wrong command line gets."""
    assert main(args) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("nanoschool: ") and err.endswith("\n") and err.count("\n") == 1
    return err


def test_help_is_fast_and_lists_everything():
    took = []
    for _ in range(3):
        start = time.monotonic()
        said = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
        took.append(time.monotonic() - start)
    assert min(took) < 0.5
    for word in (*COMMANDS, "laptop", "smoke", "nano", "rloo", "grpo", "sft", "chain", "facts"):
        assert word in said


def test_help_imports_neither_torch_nor_the_flag_parser():
    heavy = "print(sorted({'torch', 'tyro', 'numpy'} & set(sys.modules)))"
    code = f"import sys; from nanoschool.cli import main; main(['--help']); {heavy}"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    try:
        assert main([command, "--help"]) == 0
    except SystemExit as stop:
        assert not stop.code
    assert f"usage: nanoschool {command}" in capsys.readouterr().out


def test_no_command_is_help_and_version_is_said(capsys):
    assert main([]) == 0
    assert "Commands" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["rnu", "laptop"], "did you mean run?"),
        (["run", "lapto"], "did you mean laptop?"),
        (["run", "nano", "--sead", "1"], "did you mean --seed?"),
        (["run", "nano", "--pretrain.budget", "tokens=0"], "must be above 0"),
        (["chat"], "which run?"),
        (["chat", "--stage", "rl"], "which run?"),
        (["chat", "first", "--temprature", "1"], "did you mean --temperature?"),
        (["chat", "first", "-q"], "unknown flag -q"),
        (["eval", "first", "--n", "many"], "--n"),
    ],
)
def test_a_wrong_command_line(args, said, capfd):
    assert said in mistake(args, capfd)


@pytest.mark.parametrize("command", ["chat", "eval", "report"])
def test_an_unknown_run_names_the_nearest(command, runs, capfd):
    assert "did you mean first?" in mistake([command, "frist", "--runs-dir", str(runs)], capfd)
    assert "there are none" in mistake([command, "frist", "--runs-dir", str(runs / "none")], capfd)


def test_an_unknown_stage_names_the_nearest(runs, capfd):
    args = ["chat", "first", "--runs-dir", str(runs), "--stage", "pretran"]
    assert "did you mean pretrain?" in mistake(args, capfd)


def test_runs_dir_that_cannot_be_written(tmp_path, capfd):
    (tmp_path / "file").write_text("")
    said = mistake(["run", "nano", "--runs-dir", str(tmp_path / "file" / "runs")], capfd)
    assert "--runs-dir" in said and "Not a directory" in said


def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on(tmp_path):
    args = [
        "run",
        "nano",
        "--name",
        "stopped",
        "--runs-dir",
        str(tmp_path),
        "--pretrain.budget",
        "tokens=1e9",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*COMMAND, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    metrics, deadline = tmp_path / "stopped" / "metrics.jsonl", time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if metrics.exists() and metrics.read_text().count("\n") > 3:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "nanoschool run nano" in said and "--name stopped" in said
    assert list((tmp_path / "stopped" / "checkpoints").glob("pretrain-*"))
