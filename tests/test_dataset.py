"""Data: a file of the user's is split by prompt, learned from, measured on what was kept back, and refused by its row."""

import json
import math
from pathlib import Path
from typing import Any

import forked
import pytest
from test_training import LITTLE
from tiny import tiny, tokenizer

from nanoschool import methods
from nanoschool.core.examples import Comparison, Conversation, Judged
from nanoschool.methods.base import Learner
from nanoschool.methods.dataset import prompt_of, read_split
from nanoschool.types import SPLITS, UserError

PAIRS = [{"prompt": f"p{i // 2}", "chosen": "good", "rejected": f"bad {i}"} for i in range(60)]
JUDGED = [{"prompt": f"p{i // 2}", "completion": f"c{i}", "label": i % 2 == 0} for i in range(60)]
TALKS = [
    {"messages": [{"role": "user", "content": f"q{i}?"}, {"role": "assistant", "content": f"a{i}"}]}
    for i in range(30)
]
ROWS = {"sft": TALKS, "dpo": PAIRS, "kto": JUDGED, "orpo": PAIRS, "reward_model": PAIRS}


def file_of(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("rows, kind", [(PAIRS, Comparison), (JUDGED, Judged), (TALKS, Conversation)])
def test_splits_are_disjoint_by_prompt_and_make_up_the_file(tmp_path, rows, kind):
    path = file_of(tmp_path, rows)
    split = {name: read_split(path, (kind,), name) for name in SPLITS}
    prompts = {name: {prompt_of(row) for row in rows} for name, rows in split.items()}
    assert {name: len(asked) for name, asked in prompts.items()} == {"train": 24, "dev": 3, "test": 3}
    assert len(set.union(*prompts.values())) == 30 and sum(map(len, split.values())) == len(rows)
    shuffled = file_of(tmp_path, rows[::-1], "other.jsonl")
    assert {prompt_of(row) for row in read_split(shuffled, (kind,), "test")} == prompts["test"]
    with pytest.raises(UserError, match="asks 2 different things, must ask 3"):
        read_split(
            file_of(tmp_path, rows[:2] if kind is Conversation else rows[:4], "few.jsonl"), (kind,), "train"
        )


@pytest.mark.parametrize("name", ROWS)
def test_what_it_is_about_is_measured_on_rows_kept_back_and_falls(tmp_path, name):
    """The chosen replies are all alike, so a step or two is enough to show."""
    method = methods.load(name)(data=file_of(tmp_path, ROWS[name]), lr=3e-3, warmup=0.0)
    policy = tiny()
    learner = Learner(policy, None, {}, {}, {}, seed=1, stage="train")
    if name == "sft":
        method = methods.load(name)(data=method.data, lr=3e-3, warmup=0.0, rows=16, replay=0)
    if method.needs_reference:
        learner.reference = policy.snapshot()
    method.check_alone()
    method.check_rows(policy.tokenizer, policy.model.config.context)
    method.begin(learner)
    kept = 3 if name == "sft" else 6
    told = []
    for learner.step in range(8):
        found = method.held_out(learner, "dev")
        assert {len(rows) for rows in found.values()} == {kept}
        told.append(sum(found["loss"]) / kept)
        method.step(learner)
    assert all(map(math.isfinite, told)) and told[-1] < told[0]
    test = method.held_out(learner, "test")
    assert test.keys() == found.keys() and test != found


def test_without_a_file_nothing_is_kept_back():
    learner = Learner(tiny(), None, {}, {}, {}, seed=1, stage="train")
    for name in [*ROWS, "rloo", "pretrain"]:
        assert methods.load(name)().held_out(learner, "dev") == {}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_that_the_context_has_no_room_for_is_named_before_anything_is_spent(tmp_path, name):
    long = json.loads(
        json.dumps(ROWS[name][0]).replace("good", "rain " * 90).replace('a0"', "rain " * 90 + '"')
    )
    if "completion" in long:
        long["completion"] = "rain " * 90
    method = methods.load(name)(data=file_of(tmp_path, [*ROWS[name], long]))
    with pytest.raises(
        UserError, match=rf"rows\.jsonl:{len(ROWS[name]) + 1}: has \d+ tokens, the context 64"
    ):
        method.check_rows(tokenizer(), 64)


BAD = {
    "truncated": ('{"prompt": "p", "chosen": "a", "rej', "is not JSON"),
    "empty": ('{"prompt": "p", "chosen": "", "rejected": "b"}', "chosen is empty"),
    "unequal": ('{"prompt": "p", "chosen": "a"}', "rejected is not there"),
    "masked": ('{"messages": [{"role": "user", "content": "hi"}]}', "the assistant says nothing in it"),
    "of another kind": (json.dumps(TALKS[0]), "here they must be"),
    "too long": (
        json.dumps({"prompt": "p " * 300, "chosen": "a", "rejected": "b"}),
        "has .* tokens, the context 96",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_row_is_named_and_leaves_nothing_behind(nano: Path, tmp_path: Path, kind: str, capsys) -> None:
    from nanoschool.cli import main

    row, complaint = BAD[kind]
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join([*map(json.dumps, PAIRS), row]))
    args = [
        "--from",
        str(nano),
        "--data",
        str(path),
        "--budget",
        "tokens=99",
        "--runs-dir",
        str(tmp_path / "runs"),
    ]
    assert main(["train", "dpo", *args, "--threads", "1", *LITTLE.split()]) == 2
    said = capsys.readouterr().err
    assert f"{path}:{len(PAIRS) + 1}: " in said and len(said.splitlines()) == 1
    import re

    assert re.search(complaint, said), said
    assert not list(tmp_path.glob("runs/*/config.toml"))


def test_a_run_on_a_file_says_what_it_learned(nano: Path, tmp_path: Path) -> None:
    path = file_of(tmp_path, TALKS)
    args = [
        "train",
        "sft",
        "--from",
        str(nano),
        "--data",
        str(path),
        "--budget",
        "tokens=4000",
        "--threads",
        "1",
    ]
    args += ["--method.rows", "8", "--runs-dir", str(tmp_path / "runs"), *LITTLE.split()]
    done = forked.command(args)
    assert done.status == 0, done.err
    run = tmp_path / "runs" / "sft-rows"
    stages = json.loads((run / "summary.json").read_text())["stages"]
    before, after = (stages[name]["held_out"]["loss"] for name in ("start", "train"))
    assert after["mean"] < before["mean"] and after["n"] == before["n"] == 3 and "low" in after
    assert "held-out loss: train" in done.out
    assert "On the file that it learned from" in (run / "report.html").read_text()
