"""The main job: a whole run leaves what it should, is told once, and goes on from wherever it was left."""

import json
import shutil
import signal
import tomllib
from pathlib import Path
from typing import Any

import forked
import pytest

from nanoschool.core import checkpoint
from nanoschool.ledger import Ledger
from nanoschool.settings import load_run

STAGES = ("pretrain", "sft", "rl")


def lines(run: Path, stage: str, kind: str = "metrics") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["stage"] == stage and kind in line]


def steps(run: Path, stage: str, kind: str = "metrics") -> list[int]:
    return [line["step"] for line in lines(run, stage, kind)]


def summary(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())


def left_inside(run: Path, stage: str) -> None:
    """Take a finished run back to its newest checkpoint inside a stage, as a broken disk or a kill would leave it."""
    for path in (run / "checkpoints").iterdir():
        gone = path.name.partition("-")[0]
        if STAGES.index(gone if gone in STAGES else "pretrain") > STAGES.index(stage) or path.name == stage:
            path.unlink() if path.is_symlink() else shutil.rmtree(path)
    for path in (run / "checkpoints").glob(f"{stage}-*"):
        if checkpoint.read(path).state["done"]:
            shutil.rmtree(path)
    assert list((run / "checkpoints").glob(f"{stage}-*"))


def test_every_step_and_look_is_told_once_and_in_order(nano: Path) -> None:
    for stage in STAGES:
        told = steps(nano, stage)
        assert told == list(range(1, told[-1] + 1))
        looks = steps(nano, stage, "dev")
        assert looks[0] == 0 and looks[-1] == told[-1] and looks == sorted(set(looks))
        progress = [line["progress"] for line in lines(nano, stage)]
        assert progress == sorted(progress) and progress[-2] < 1.0 <= progress[-1]


def test_every_stage_changes_the_weights_and_graduates_with_the_last_of_the_best(nano: Path) -> None:
    assert len({forked.weights(nano, stage) for stage in STAGES}) == 3
    assert forked.weights(nano, "best") == forked.weights(nano, "rl")
    for stage in STAGES:
        saved = checkpoint.read(nano / "checkpoints" / stage)
        scores = {line["step"]: line["dev"]["score"] for line in lines(nano, stage, "dev")}
        best = max(scores.values())
        assert saved.state["done"]
        assert saved.state["best"]["step"] == max(step for step, score in scores.items() if score == best) > 0


def test_practice_has_a_reward_that_varies(nano: Path) -> None:
    metrics = [line["metrics"] for line in lines(nano, "rl")]
    assert any(m["skipped"] == 0.0 and m["zero_variance"] < 1.0 and m["reward"] > 0 for m in metrics)


def test_the_summary_says_what_came_of_it(nano: Path) -> None:
    said, settings = summary(nano), load_run(nano)
    assert said["name"] == said["preset"] == "nano" and said["seed"] == 1 and said["threads"] == 1
    assert list(said["stages"]) == list(STAGES)
    for stage in STAGES:
        exam = said["stages"][stage]
        for world, formats in exam["worlds"].items():
            everything = (
                stage == "pretrain" or world == "digit"
            )  # what was practised, and one that has only read
            assert set(formats) == ({"chat", *settings.worlds[world].formats} if everything else {"chat"}), (
                world
            )
            assert all(s["n"] == 8 and s["low"] <= s["mean"] <= s["high"] for s in formats.values())
        assert exam["passk"]["digit"].keys() == {"pass@1", "pass@2"}
        assert exam["gate"]["books"] == 20 and not exam["gate"]["passed"]
    assert said["gain"]["from"] == "sft" and said["gain"]["to"] == "rl" and said["gain"]["world"] == "digit"
    assert said["gain"]["verdict"] in ("beyond the base", "elicitation", "no gain shown", "worse")
    assert said["compression"] is None
    seconds = said["seconds"]
    assert set(seconds) == {*STAGES, "evaluation", "total"} and min(seconds.values()) > 0
    assert seconds["total"] == pytest.approx(sum(seconds.values()) - seconds["total"])


def test_the_ledger_has_every_account_and_no_unnamed_one(nano: Path) -> None:
    ledger = Ledger.from_json(json.loads((nano / "ledger.json").read_text()))
    assert ledger.total("rl").rollouts == 256 and ledger.total("rl/collect").sampled > 0
    assert ledger.total("pretrain").tokens == pytest.approx(20e3, abs=4 * 96)
    assert not any(name.startswith("unnamed") for name in ledger.accounts)
    assert ledger.total().flops == sum(ledger.total(part).flops for part in (*STAGES, "evaluation"))


def test_the_folder_says_what_was_asked_for(nano: Path) -> None:
    settings = tomllib.loads((nano / "config.toml").read_text())
    assert settings["version"] == 1 and settings["rl"]["method"]["samples"] == 8
    assert "runs_dir" not in settings and "allow_inexact" not in settings
    transcripts = [json.loads(line) for line in (nano / "samples.jsonl").read_text().splitlines()]
    assert {t["stage"] for t in transcripts} == set(STAGES)
    assert all(len(t["tokens"]) == len(t["probabilities"]) for t in transcripts)


def test_a_finished_run_run_again_does_nothing_but_write_its_report_again(nano: Path, tmp_path: Path) -> None:
    run = forked.copy(nano, tmp_path)
    page = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    before = forked.files(run)
    done = forked.command(["run", "nano", "--runs-dir", str(tmp_path)])
    assert done.status == 0 and "is finished, nothing is left to train" in done.out
    after = forked.files(run)
    assert after.pop("report.html") == page
    assert after == before


@pytest.mark.soak
def test_killed_as_each_exam_is_written_it_goes_on_to_the_same_end(nano: Path, tmp_path: Path) -> None:
    args, run = ["run", "nano", "--runs-dir", str(tmp_path)], tmp_path / "nano"
    for stage in STAGES:
        killed = forked.command(args, forked.Trouble(f"exam-{stage}.json", 1))
        assert killed.status == -signal.SIGKILL and not (run / f"exam-{stage}.json").exists()
    done = forked.command(args)
    assert done.status == 0 and "goes on from rl-000004" in done.out, done.err
    assert forked.told(run) == forked.told(nano)
    assert all(summary(run)["seconds"][s] > 0.2 * summary(nano)["seconds"][s] for s in STAGES)


def test_left_inside_practice_it_goes_on_to_the_same_end(nano: Path, tmp_path: Path) -> None:
    run = forked.copy(nano, tmp_path)
    left_inside(run, "rl")
    done = forked.command(["run", "nano", "--runs-dir", str(tmp_path)])
    assert done.status == 0 and "goes on from rl-000003" in done.out, done.err
    assert forked.told(run) == forked.told(nano)


@pytest.mark.soak
def test_grpo_finds_its_reference_again(tmp_path: Path) -> None:
    args = ["run", "nano", "--rl.use", "grpo", "--rl.method.kl", "0.5", "--runs-dir"]
    assert forked.command([*args, str(tmp_path / "whole")]).status == 0
    whole = tmp_path / "whole" / "nano"
    assert any(line["metrics"]["skipped"] == 0.0 for line in lines(whole, "rl")[:-2])
    run = forked.copy(whole, tmp_path)
    left_inside(run, "rl")
    assert forked.command([*args, str(tmp_path)]).status == 0
    assert forked.told(run) == forked.told(whole)


def test_a_budget_in_seconds_is_turned_into_flops_once(tmp_path: Path) -> None:
    args = ["run", "nano", "--stages", "pretrain", "--pretrain.budget", "seconds=0.4", "--runs-dir"]
    assert forked.command([*args, str(tmp_path)]).status == 0
    run = tmp_path / "nano"
    rate = json.loads((run / "rate.json").read_text())["flops_per_second"]
    spent = json.loads((run / "ledger.json").read_text())["pretrain/fit"]["flops"]
    step = spent / steps(run, "pretrain")[-1]
    assert 0.4 * rate <= spent <= 0.4 * rate + 2 * step
    whole = forked.told(run)
    for path in (run / "checkpoints").iterdir():
        if path.name == "best" or path.name == "pretrain":
            path.unlink()
        elif checkpoint.read(path).state["done"]:
            shutil.rmtree(path)
    again = forked.command([*args, str(tmp_path)])
    assert again.status == 0, again.err
    assert forked.told(run) == whole


def test_the_users_own_text(tmp_path: Path) -> None:
    books = tmp_path / "books"
    (books / "old").mkdir(parents=True)
    for number in range(6):
        told = (
            f"Chapter {n} of book {number}. The {n * 7 + number}th house was old and grey.\n"
            for n in range(120)
        )
        (books / "old" / f"{number}.txt").write_text("".join(told))
    with open(books / "more.jsonl", "w") as file:
        file.writelines(
            json.dumps({"text": f"A note, the {n}th, about rain and hail."}) + "\n" for n in range(90)
        )
    flags = ["--text", str(books), "--mix.rules", "0", "--stages", "pretrain", "--pretrain.save", "40"]
    done = forked.command(["run", "nano", "--runs-dir", str(tmp_path), *flags])
    assert done.status == 0, done.err
    run = tmp_path / "nano"
    found = summary(run)["compression"]
    held_out = (run / "text-test.txt").read_bytes()
    assert found["bytes"] == len(held_out) > 1000
    assert 0 < found["xz -9e"] < 8 and 0 < found["gzip -9"] < 8 and 0 < found["model"] < 8
    assert "xz -9e" in done.out and "gzip -9" in done.out
    page = (run / "report.html").read_text()
    assert "xz -9e" in page and "gzip -9" in page and f"{found['model']:.3f}" in page
    whole = forked.told(run)
    shutil.rmtree(books)  # a resume reads what lies in the run's folder
    left_inside(run, "pretrain")
    again = forked.command(["run", "nano", "--runs-dir", str(tmp_path), *flags])
    assert again.status == 0, again.err
    assert forked.told(run) == whole
