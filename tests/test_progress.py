"""Progress: few lines where nobody watches, one block where somebody does, time left from the budget that went."""

import io

from rich.console import Console

from nanoschool.progress import EVERY, Lines, Shown, Silent, TimeLeft, watcher


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_time_left_is_by_budget_and_a_resumed_stage_starts_part_way():
    clock = Clock()
    left = TimeLeft(clock)
    assert left(0.5) == "--:--"  # resumed at half: no speed is known yet
    clock.now += 60
    assert left(0.75) == "1:00"
    clock.now += 60
    assert left(1.0) == "0:00"
    assert left(1.2) == "0:00"  # the last step may overspend


def test_lines_come_every_few_seconds_and_at_the_end():
    clock, out = Clock(), io.StringIO()
    show = Lines(out, clock)
    show.stage("rl", "rollouts 100")
    for step in range(1, 101):
        clock.now += EVERY / 10
        show.sample(f"try\n{step}")
        show.step("rl", step, step / 100, {"reward": 0.5, "lr": 0.1}, "9 rollouts/s")
    show.say("done")
    show.close()
    lines = out.getvalue().splitlines()
    steps = [line for line in lines if line.startswith("rl step")]
    assert lines[0] == "rl: budget rollouts 100"
    assert lines[-1] == "done"
    assert len(steps) == 10
    assert steps[-1].startswith("rl step 100 100% reward 0.5 9 rollouts/s")
    assert lines[2] == "  try 10"


def test_the_live_block_shows_stage_budget_numbers_and_sample():
    out = io.StringIO()
    show = Shown(Console(file=out, force_terminal=True, width=120))
    show.stage("pretrain", "tokens 100")
    show.sample("once upon\na time")
    show.step("pretrain", 3, 0.5, {"loss": 1.234}, "17k tokens/s")
    show.say("pretrain 3: dev loss 1.2 [not markup]")
    show.step("pretrain", 4, 1.01, {"loss": 1.2}, "17k tokens/s")
    show.stage("sft", "tokens 5")
    show.close()
    show.close()
    said = out.getvalue()
    for words in (
        "pretrain",
        " 50%",
        "100%",
        "17k tokens/s",
        "loss 1.23",
        "once upon a time",
        "[not markup]",
        "left",
    ):
        assert words in said


def test_the_stream_picks_the_display():
    assert isinstance(watcher(io.StringIO()), Lines)


def test_silent_says_nothing(capfd):
    show = Silent()
    show.stage("rl", "x")
    show.step("rl", 1, 0.1, {}, "")
    show.sample("x")
    show.say("x")
    show.close()
    assert capfd.readouterr() == ("", "")
