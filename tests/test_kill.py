"""Killed at random moments, several inside a checkpoint's write, a run told to go on ends in the same bits.

And it tells the same story: no step, look, sample or charge twice, none missing.
"""

import os
import random
import signal
import tempfile
import time
from pathlib import Path

import forked
import pytest

CHECKPOINTS = "/checkpoints/"


def test_nano_killed_five_times(nano_done: tuple[Path, forked.Done], tmp_path: Path) -> None:
    whole, done = nano_done
    _killed("nano", whole, done.touches, tmp_path, kills=5, seed=1)


@pytest.mark.soak
def test_smoke_killed_twenty_times(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    done = forked.command(["run", "smoke", "--runs-dir", str(whole)], forked.Trouble(CHECKPOINTS), 600)
    assert done.status == 0, done.err
    _killed("smoke", whole / "smoke", done.touches, tmp_path / "killed", kills=20, seed=2)


@pytest.mark.soak
def test_a_short_run_killed_before_every_ninth_touch_of_its_folder(tmp_path: Path) -> None:
    """Every stage, look, link and exam comes within a few steps, so each kind of moment is met."""
    flags = "--pretrain.budget tokens=700 --sft.budget tokens=500 --rl.budget rollouts=128"
    flags += (
        " --pretrain.check 1 --pretrain.save 1 --sft.check 1 --sft.save 1 --rl.check 1 --sft.method.rows 4"
    )
    flags += (
        " --evaluation.problems 2 --evaluation.look 1 --evaluation.pass-problems 1 --evaluation.gate-books 2"
    )
    args = ["run", "nano", *flags.split(), "--runs-dir"]
    counted = forked.command([*args, str(tmp_path / "whole")], forked.Trouble("/nano/"))
    assert counted.status == 0, counted.err
    whole = forked.told(tmp_path / "whole" / "nano")
    for touch in range(1, counted.touches, 9):
        runs = tmp_path / str(touch)
        killed = forked.command([*args, str(runs)], forked.Trouble("/nano/", touch))
        assert killed.status == -signal.SIGKILL
        again = forked.command([*args, str(runs)])
        assert again.status == 0, (touch, again.err)
        assert forked.told(runs / "nano") == whole, touch


def _killed(preset: str, whole: Path, touches: int, runs: Path, kills: int, seed: int) -> None:
    """Kill a run again and again, at some touch of its checkpoints or at some time; let it end; compare with `whole`."""
    rng, args = random.Random(seed), ["run", preset, "--runs-dir", str(runs)]
    written_halfway = 0
    for kill in range(kills):
        if kill % 3 < 2:
            touch = rng.randrange(1, 2 * touches // kills)
            done = forked.command(args, forked.Trouble(CHECKPOINTS, touch))
            status = done.status
            assert status == -signal.SIGKILL, done.err
        else:
            status = _killed_by_the_clock(args, rng.uniform(0.2, 1.0))
        assert status == -signal.SIGKILL
        written_halfway += bool(list((runs / preset / "checkpoints").glob(".tmp-*")))
    done = forked.command(args, seconds=600)
    assert done.status == 0, done.err
    assert written_halfway >= 2
    assert forked.told(runs / preset) == forked.told(whole)
    assert not list((runs / preset / "checkpoints").glob(".tmp-*"))


def _killed_by_the_clock(args: list[str], seconds: float) -> int | None:
    with tempfile.TemporaryDirectory() as said:
        process = forked.start(args, said)
        time.sleep(seconds)
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        return process.exitcode
