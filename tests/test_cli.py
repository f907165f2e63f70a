"""The command line: help is fast, without torch; a mistake gets one line and status 2; Ctrl-C 130 and the way on."""

import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest

from nanoschool import __version__
from nanoschool.cli import COMMANDS, main
from nanoschool.settings import load_settings, to_toml

PREFIX = re.compile(r"nanoschool( [a-z]+)?( \S+)?: (?!nanoschool)")  # who speaks, once

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
    assert PREFIX.match(err) and err.endswith("\n") and err.count("\n") == 1
    return err


def test_help_is_fast_and_lists_everything():
    took = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
        after = resource.getrusage(
            resource.RUSAGE_CHILDREN
        )  # processor time: a busy machine is no slower one
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
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


@pytest.mark.parametrize("command", ["compare", "xray", "eval x", "chat x", "train rloo"])
def test_every_flag_says_what_it_is(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")  # one column of boxes
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    shown = re.sub(r"[│╭╰─╮╯]+|\n", " ", capsys.readouterr().out.partition("method options")[0])
    flags = re.split(r" (?=--?[a-z])", shown)[1:]
    bare = [flag for flag in flags if re.fullmatch(r"--[a-z-]+ [^a-z]*\(default: .*\) *", flag)]
    assert len(flags) > 5 and not bare


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
        (["run", "--runs-dir", "x"], "which preset? Its name comes first"),
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


USERS_WORLD = """\
from random import choice
from nanoschool.types import Ask, Outcome, Task

class Mine:
    name, replayable = "mine", True

    def tasks(self, split, count, seed=0):
        return [Task("mine", split, {})] * (count if split == "test" else choice([]))

    def play(self, task):
        reply = yield Ask("?")
        return Outcome((1 / (len(reply.text) - 1),))

WORLD = Mine()
"""


@pytest.mark.parametrize(
    ("args", "world", "said"),
    [
        (
            ["play"],
            USERS_WORLD,
            "mine.py:8: IndexError: Cannot choose from an empty sequence; mend that line",
        ),
        (["eval", "--policy", "echo", "--env"], USERS_WORLD, "mine.py:12: ZeroDivisionError: "),
        (["audit"], "\n1 / 0\n", "mine.py:2: ZeroDivisionError: division by zero"),
        (["audit"], "import nonesuch\n", "mine.py:1: ModuleNotFoundError: No module named 'nonesuch'"),
    ],
)
def test_a_users_world_that_raises_is_named_by_its_line(args, world, said, tmp_path, capfd):
    (tmp_path / "mine.py").write_text(world)
    assert said in mistake([*args, str(tmp_path / "mine.py")], capfd)


def test_runs_dir_that_cannot_be_written(tmp_path, capfd):
    (tmp_path / "file").write_text("")
    said = mistake(["run", "nano", "--runs-dir", str(tmp_path / "file" / "runs")], capfd)
    assert "--runs-dir" in said and "Not a directory" in said


def test_ctrl_c_at_the_real_command_writes_a_checkpoint_and_says_how_to_go_on(tmp_path):
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
    process = subprocess.Popen([*COMMAND, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics, deadline = tmp_path / "stopped" / "metrics.jsonl", time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if metrics.exists() and metrics.read_text().count("\n") > 3:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.count("\n") == 1
    assert f"nanoschool run {tmp_path}/stopped/config.toml --name stopped --runs-dir {tmp_path}" in said
    assert list((tmp_path / "stopped" / "checkpoints").glob("pretrain-*"))


def test_a_run_ends_with_its_headlines_and_the_place_of_its_report(nano_done):
    run, done = nano_done
    lines = done.out.splitlines()
    assert done.err == ""
    assert lines[-1] == str(run / "report.html") and (run / "report.html").is_file()
    said = "\n".join(lines[-12:])
    assert re.search(r"rl over sft, digit: [+-]\d+\.\d points .*95 % interval \[.*n = 8", said)
    assert re.search(r"(beyond the base|elicitation|no gain shown|worse); best before: ", said)
    assert re.search(r"digit: pretrain \d.* sft \d.* rl \d.* \(n = 8\)", said)


@pytest.mark.parametrize("stage", [None, "pretrain", "sft", "rl"])
def test_chat_with_each_self_of_a_finished_run(stage, nano):
    args = ["chat", "nano", "--runs-dir", str(nano.parent), "-p", "3+4=?", "--max-tokens", "8"]
    done = forked.command([*args, "--stage", stage] if stage else args)
    assert done.status == 0, done.err
    assert done.out.endswith("\n") and done.out.strip()
    assert ("has only read" in done.err) == (stage == "pretrain")
    assert done == forked.command([*args, "--stage", stage or "rl"])  # greedy


def test_eval_measures_a_stage_of_a_finished_run(nano):
    args = ["eval", "nano", "--runs-dir", str(nano.parent), "--n", "6"]
    before = forked.files(nano)
    done = forked.command([*args, "--stage", "sft"])
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert {line.split()[0] for line in lines} == {"rules", "digit"}
    assert all(re.search(r"\d\.\d{3}  \[\d\.\d{3}, \d\.\d{3}\]  n=\d+$", line) for line in lines)
    other = forked.command([*args, "--worlds", "chain"])
    assert other.status == 0 and other.out.startswith("chain ") and not other.err
    small = forked.command([*args[:-1], "60", "--worlds", "digit"])
    there = re.fullmatch(r"nanoschool: digit has (\d+) test problems, not 60: all are taken\n", small.err)
    assert small.status == 0 and there and f"n={there[1]}\n" in small.out
    drawn = forked.command([*args, "--worlds", "digit", "--samples", "3", "--temperature", "1"])
    assert drawn.status == 0, drawn.err
    scores = {re.split(r"  +", line)[0]: re.split(r"  +", line)[1] for line in drawn.out.splitlines()}
    assert scores["digit chat"] == scores["digit chat pass@1"] <= scores["digit chat pass@3"]
    assert forked.files(nano) == before


def test_report_is_written_again_the_same(nano, tmp_path):
    run = forked.copy(nano, tmp_path)
    page = (run / "report.html").read_text()
    (run / "report.html").unlink()
    done = forked.command(["report", "nano", "--runs-dir", str(tmp_path)])
    assert done.status == 0 and done.out == f"{run / 'report.html'}\n"
    assert (run / "report.html").read_text() == page
    for word in ("rules", "digit", "pretrain", "sft", "reward", "best before", "pass@2"):
        assert word in page.lower(), word
    assert page.count("<svg") >= 5


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["chat", "--stage", "rl", "-p", "x"], "has not finished its stage 'rl'"),
        (["eval", "--stage", "sftt"], "did you mean sft?"),
        (["eval", "--worlds", "rulse"], "unknown world 'rulse'"),
    ],
)
def test_what_is_not_there_is_said(args, said, nano, tmp_path, capfd):
    run = forked.copy(nano, tmp_path)
    (run / "checkpoints" / "rl").unlink()
    assert said in mistake([args[0], "nano", "--runs-dir", str(tmp_path), *args[1:]], capfd)


def test_a_stage_that_is_broken_is_named(nano, tmp_path, capfd):
    run = forked.copy(nano, tmp_path)
    forked.flip(run / "checkpoints" / "sft" / "model.safetensors")
    args = ["chat", "nano", "--runs-dir", str(tmp_path), "--stage", "sft", "-p", "x"]
    assert "model.safetensors: is not what was written (SHA-256 differs)" in mistake(args, capfd)
