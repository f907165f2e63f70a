"""Adapters: other people's tasks through their own scorers, files of questions, a user's own reward."""

import json
from decimal import Decimal
from inspect import getattr_static
from pathlib import Path
from random import Random

import forked
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import perform, score

from nanoschool import envs
from nanoschool.cli import main
from nanoschool.envs import adapters
from nanoschool.envs.adapters import guard, questions, rg
from nanoschool.envs.adapters.reward import rewarded
from nanoschool.envs.adapters.to_trl import environment, rows
from nanoschool.envs.adapters.walk import Walk
from nanoschool.types import HasDemonstrations, HasOracle, Reply, Task, UserError

GSM8K = Path(__file__).parents[2] / "shared" / "data" / "gsm8k"
HOSTILE = (
    "",
    " ",
    "1e309",
    "nan",
    "#### ",
    "9" * 100_000,
    "[" * 50_000,
    "(" * 10_000 + ")" * 10_000,
    "\ud800\x00٣",
)
WITHOUT_ANSWERS = {"boxnet", "rush_hour"}  # reasoning-gym has no answer of its own to these, only a score


def test_the_folder_of_adapters_is_a_registry():
    assert {"rg", "ta", "gym", "openenv", "vf"} <= set(adapters.prefixes())
    assert not {"guard", "walk", "questions", "reward", "to_trl"} & set(adapters.prefixes())
    with pytest.raises(UserError, match=r"unknown world 'rgg:chain_sum'.*rg:"):
        envs.load("rgg:chain_sum")


def test_an_absent_package_names_its_extra():
    with pytest.raises(
        UserError, match=r"no_such_package cannot be imported.*pip install 'nanoschool\[textarena\]'"
    ):
        adapters.package("no_such_package", "textarena")


# reasoning-gym

SILENT = {
    "ab": {18}
}  # of the first 50: a program that leaves nothing, to which the answer is "", and silence earns nothing


def items(world: rg.ReasoningGym, count: int) -> list[Task]:
    return [
        Task(world.name, "", {"item": at, "question": world._entry(at)["question"]}) for at in range(count)
    ]


@pytest.mark.parametrize("name", rg.names())
def test_a_tasks_own_answer_scores_one(name):
    world = envs.load(f"rg:{name}")
    for task in items(world, 3):
        if name in WITHOUT_ANSWERS:
            with pytest.raises(UserError, match="gives no answer"):
                world.demonstration(task)
        else:
            asked, shown = world.demonstration(task)
            assert asked.content == next(world.play(task)).text
            assert score(world, task, shown.content) == 1.0
            assert score(world, task, f"so <answer>{shown.content}</answer>") == 1.0


@pytest.mark.soak
@pytest.mark.parametrize("name", rg.names())
def test_fifty_of_a_tasks_own_answers_score_one(name):
    world = envs.load(f"rg:{name}")
    if name not in WITHOUT_ANSWERS:
        told = {task.data["item"]: world.demonstration(task)[1].content for task in items(world, 50)}
        short = {
            task.data["item"] for task in items(world, 50) if score(world, task, told[task.data["item"]]) < 1
        }
        assert short == SILENT.get(name, set())
        assert not any(told[item] for item in short)


@pytest.mark.parametrize("name", rg.names())
def test_hostile_replies_score_within_bounds(name):
    world = envs.load(f"rg:{name}")
    task = items(world, 1)[0]
    for reply in HOSTILE:
        outcome = perform(world.play(task), [reply])[1]
        assert outcome.rewards is not None and 0.0 <= outcome.rewards[0] < 1.0


@pytest.mark.parametrize("name", ["chain_sum", "leg_counting", "letter_counting"])
def test_splits_do_not_meet_and_follow_from_the_seed(name):
    world = envs.load(f"rg:{name}")
    asked = [{task.problem for task in world.tasks(split, 40)} for split in ("train", "dev", "test")]
    assert [len(problems) for problems in asked] == [40, 40, 40]
    assert not asked[0] & asked[1] and not asked[0] & asked[2] and not asked[1] & asked[2]
    assert (
        list(world.tasks("dev", 5)) == list(world.tasks("dev", 9))[:5] != list(world.tasks("dev", 5, seed=1))
    )
    assert json.loads(json.dumps(world.tasks("dev", 1)[0].data)) == world.tasks("dev", 1)[0].data


def test_settings_of_a_task_are_its_own_fields():
    world = rg.ReasoningGym("chain_sum", {"min_terms": 6, "max_terms": 6, "min_digits": 1, "max_digits": 1})
    assert all(len(task.data["question"].split("+")) <= 6 for task in world.tasks("train", 5))
    with pytest.raises(UserError, match=r"rg:chain_sum: config=.*min_terms"):
        rg.ReasoningGym("chain_sum", {"min_terms": 0})
    with pytest.raises(
        UserError, match=r"rg:chian_sum: unknown to reasoning-gym: did you mean 'rg:chain_sum'"
    ):
        envs.load("rg:chian_sum")


def test_a_scorer_that_evaluates_runs_no_program(tmp_path):
    file = tmp_path / "touched"
    for name in rg.TRUSTED:
        world = envs.load(f"rg:{name}")
        task = items(world, 1)[0]
        for reply in (
            f"open({str(file)!r}, 'w')",
            f"[open(f, 'w') for f in [{str(file)!r}]]",
            f"__import__('pathlib').Path({str(file)!r}).touch()",
            "[1 for a in '" + "x" * 2000 + "' for b in 'xx']",
            "9**9**9**9",
            "(((9**99)**99)**99)**99",
            "9**(99**99)",
        ):
            outcome = perform(world.play(task), [reply])[1]
            assert outcome.rewards == (0.0,) and "form" in outcome.info["complaint"], (name, reply)
    assert not file.exists()


@settings(max_examples=300, deadline=1000)
@given(st.one_of(st.text(max_size=300), st.text(alphabet="x*()0123456789+-/ .sincoexpC,", max_size=300)))
def test_the_guards_take_any_text_quickly(reply):
    for let in (guard.is_literal, guard.is_sum, guard.is_formula):
        assert let(reply) in (True, False)


# A file of questions


@pytest.mark.parametrize(
    "reply, right",
    [
        ("#### 72", True),
        ("48/2=<<48/2=24>>24, 48+24=<<48+24=72>>72\n#### 72", True),
        ("72", True),
        ("#### $72.00.", True),
        ("#### 71\n#### 72", True),
        ("#### 72\n#### 71", False),
        ("it is 72", False),
        ("#### 7 2", False),
        ("#### 70 71 72 73", False),
        ("#### ٧٢", False),
        ("#### 72e0", False),
        ("#### nan", False),
        ("", False),
    ],
)
def test_an_answer_is_what_stands_after_the_last_mark(reply, right, tmp_path):
    (tmp_path / "q.jsonl").write_text(
        json.dumps({"question": "How many?", "answer": "24+48=<<24+48=72>>72\n#### 72"})
    )
    world = envs.load(str(tmp_path / "q.jsonl"))
    task = next(task for tasks in world.by_split.values() for task in tasks)
    assert score(world, task, reply) == float(right)
    assert world.demonstration(task)[1].content == "24+48=72\n#### 72"
    assert world.steps("24+48=72\n#### 72") == [9]


def test_equal_answers():
    for one, other in (
        ("1,000", "1000"),
        ("0.50", ".5"),
        ("-3", "-3.0"),
        ("The Cat", "the  cat"),
        ("50%", "50"),
    ):
        assert questions.same(one, other)
    for one, other in (("1,00", "100"), ("cat", "3"), ("1e3", "1000"), ("3", "-3"), ("9" * 50, "9" * 51)):
        assert not questions.same(one, other)


@pytest.mark.parametrize(
    "lines, complaint",
    [
        (
            '{"question": "a?", "answer": "1"}\n{"question": 3, "answer": "1"}',
            r'q\.jsonl:2: has no "question"',
        ),
        ('{"question": "a?"}', r'q\.jsonl:1: has no "answer"'),
        ("\n\n[1]", r'q\.jsonl:3: has no "question"'),
        ('{"question": "a?", "answer": "1"', r"q\.jsonl:1: is not JSON"),
        ('{"question": "a?", "answer": "1 ####  "}', r"q\.jsonl:1: its answer is empty after ####"),
        (
            '{"question": "a?", "answer": "1"}\n{"question": "a?", "answer": "2"}',
            r"q\.jsonl:2: .*another answer",
        ),
    ],
)
def test_a_bad_row_is_named_with_its_line(lines, complaint, tmp_path):
    (tmp_path / "q.jsonl").write_text(lines)
    with pytest.raises(UserError, match=complaint):
        envs.load(str(tmp_path / "q.jsonl"))


def test_a_file_is_split_by_question_and_a_folder_by_its_files(tmp_path):
    lines = [json.dumps({"question": f"{a}+1?", "answer": a + 1}) for a in range(300)]
    (tmp_path / "all.jsonl").write_text("\n".join(lines + lines[:5]))
    world = envs.load(str(tmp_path / "all.jsonl"))
    sizes = {split: len(tasks) for split, tasks in world.by_split.items()}
    assert sum(sizes.values()) == 300 and 200 < sizes["train"] < 270 and sizes["dev"] > 10 < sizes["test"]
    with pytest.raises(UserError, match=r"holds .* dev questions, 300 were asked for"):
        world.tasks("dev", 300)
    (tmp_path / "train.jsonl").write_text("\n".join(lines[:250]))
    (tmp_path / "test.jsonl").write_text("\n".join(lines[200:]))
    folder = envs.load(str(tmp_path))
    problems = {split: {task.problem for task in tasks} for split, tasks in folder.by_split.items()}
    assert len(problems["test"]) == 100 and len(problems["train"] | problems["dev"]) == 200
    assert not problems["train"] & problems["dev"] and len(problems["dev"]) > 5
    (tmp_path / "test.jsonl").unlink()
    with pytest.raises(UserError, match="needs train and test"):
        envs.load(str(tmp_path))


@pytest.mark.peers
def test_parquet_rows_are_questions_too(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is absent; `make peers` installs it")
    table = __import__("pyarrow").table({"question": ["a?", "b?"], "answer": ["#### 1", "x"]})
    parquet.write_table(table, tmp_path / "q.parquet")
    world = envs.load(str(tmp_path / "q.parquet"))
    tasks = [task for split in world.by_split.values() for task in split]
    assert {(task.problem, task.data["answer"]) for task in tasks} == {("a?", "1"), ("b?", "x")}
    (tmp_path / "q.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(UserError, match=r"q\.parquet: is no Parquet file"):
        envs.load(str(tmp_path / "q.parquet"))
    parquet.write_table(table.rename_columns(["q", "answer"]), tmp_path / "q.parquet")
    with pytest.raises(UserError, match=r'q\.parquet:row 1: has no "question"'):
        envs.load(str(tmp_path / "q.parquet"))


def test_every_gsm8k_answer_scores_one_and_the_next_number_nothing():
    if not GSM8K.is_dir():
        pytest.skip("the real questions, ../shared/data/gsm8k, are not here")
    world = envs.load(str(GSM8K))
    tasks = world.tasks("test", 1319)
    whole = {}
    for line in (GSM8K / "test.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        whole[" ".join(row["question"].split())] = row["answer"]
    right = wrong = 0.0
    for task in tasks:
        assert score(world, task, world.demonstration(task)[1].content) == 1.0
        right += score(world, task, whole[task.problem])
        wrong += score(world, task, f"#### {Decimal(task.data['answer'].replace(',', '')) + 1}")
    assert (right, wrong) == (1319.0, 0.0)


# A user's own reward


def own(tmp_path: Path, body: str):
    (tmp_path / "mine.py").write_text(f"def score(task, reply):\n    {body}\n")
    return rewarded(envs.load("chain"), f"{tmp_path / 'mine.py'}:score")


def test_a_users_function_scores_what_was_said(tmp_path):
    world = own(tmp_path, "return len(reply) / 10 + (task.data['L'] > 99)")
    task = world.tasks("train", 1)[0]
    outcome = perform(world.play(task), ["b=1+1=2 #### 2"])[1]
    assert outcome.rewards == (1.4,) and outcome.info["world_reward"] == (0.0,)
    assert world.tasks("test", 3) == envs.load("chain").tasks("test", 3) and world.replayable
    assert own(tmp_path, "return reply == 'x'").name == "chain"


def test_what_a_world_says_of_itself_holds_under_any_reward(tmp_path):
    """Seen as isinstance() of a protocol looks from Python 3.12 on, which asks no __getattr__."""
    world = own(tmp_path, "return 0")
    for name in ("demonstration", "document", "guess"):
        assert getattr_static(world, name) == getattr(envs.load("chain"), name)
    assert isinstance(world, HasDemonstrations) and not isinstance(world, HasOracle)


@pytest.mark.parametrize(
    "body, complaint",
    [
        ("return 1 / 0", r"mine\.py:2: ZeroDivisionError: division by zero"),
        ("return 'good'", r"gave 'good' .*return a number"),
        ("return float('nan')", r"gave nan .*return a finite number"),
        ("return 1e309", r"gave inf .*return a finite number"),
    ],
)
def test_a_bad_score_is_one_line(body, complaint, tmp_path):
    world = own(tmp_path, body)
    with pytest.raises(UserError, match=complaint) as error:
        score(world, world.tasks("train", 1)[0], "x")
    assert "\n" not in str(error.value)


def test_a_reward_that_is_not_there(tmp_path):
    chain = envs.load("chain")
    (tmp_path / "mine.py").write_text("x = 1\n")
    (tmp_path / "bad.py").write_text("def f(:\n")
    (tmp_path / "loud.py").write_text("\nraise ValueError('no')\n")
    for source, complaint in (
        ("mine:score", "write FILE.py:FUNCTION"),
        (f"{tmp_path}/none.py:score", "there is no such file"),
        (f"{tmp_path}/mine.py:score", "has no function score"),
        (f"{tmp_path}/bad.py:f", r"bad\.py:1: is not Python"),
        (f"{tmp_path}/loud.py:f", r"loud\.py:2: ValueError: no"),
    ):
        with pytest.raises(UserError, match=complaint):
            rewarded(chain, source)


def test_a_users_reward_is_put_on_trial(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("def score(task, reply):\n    return float(len(reply) > 200)\n")
    source = f"{tmp_path / 'mine.py'}:score"
    assert main(["audit", "sums", "--reward", source, "--n", "40"]) == 1
    assert "GAMEABLE" in capsys.readouterr().out
    (tmp_path / "mine.py").write_text("def score(task, reply):\n    return 1.0\n")
    assert main(["audit", "sums", "--reward", source, "--n", "40"]) == 1
    assert "sums: CANNOT TELL RIGHT FROM WRONG" in capsys.readouterr().out
    assert main(["audit", "sums", "--n", "40"]) == 0


def test_a_run_practises_for_a_users_reward_and_is_measured_by_the_worlds(tmp_path):
    (tmp_path / "mine.py").write_text("def score(task, reply):\n    return 7.0\n")
    flags = ["--rl.reward", f"{tmp_path / 'mine.py'}:score", "--runs-dir", str(tmp_path)]
    done = forked.command(["run", "nano", *flags])
    assert done.status == 0, done.err
    lines = [json.loads(line) for line in (tmp_path / "nano" / "metrics.jsonl").read_text().splitlines()]
    practised = [line["metrics"] for line in lines if line["stage"] == "rl" and "metrics" in line]
    assert practised and all(step["reward"] == 7.0 and step["skipped"] == 1.0 for step in practised)
    assert all(line["dev"]["score"] <= 1.0 for line in lines if "dev" in line)
    assert forked.command(["run", "nano", *flags, "--rl.reward", "mine:score", "--name", "b"]).status == 2


# Ours, driven from outside


def test_a_walk_earns_what_the_world_pays():
    world = envs.load("chain")
    for task in world.tasks("train", 10):
        walk = Walk(world, task)
        assert walk.said == next(world.play(task)).text and walk.outcome is None and walk.reward == 0.0
        walk.say(world.demonstration(task)[1].content)
        assert walk.outcome is not None and walk.reward == 1.0
        with pytest.raises(UserError, match="has ended"):
            walk.say("again")


def test_a_second_seat_needs_an_opponent():
    world = envs.load("tictactoe")
    rng = Random(3)
    ended = 0
    for task in world.tasks("train", 10):

        def guess(ask, task=task):
            return Reply("no such move")

        walk = Walk(world, task, {1: guess})
        while walk.outcome is None:
            walk.say(rng.choice(["1", "a1", "5"]))
        ended += -1.0 <= walk.reward <= 1.0
    assert ended == 10
    with pytest.raises(UserError, match="seat 1 plays too"):
        for task in world.tasks("train", 10):
            walk = Walk(world, task)
            walk.say(world.oracle(task, []).best_replies[0])


def test_trls_environment_plays_a_task_and_pays():
    world = envs.load("chain")
    played = environment(world, count=4)()
    for row in rows(4):
        task = world.tasks("train", 4)[row["task"]]
        assert played.reset(**row) == next(world.play(task)).text and played.get_reward() == 0.0
        assert played.reply(world.demonstration(task)[1].content) == "The episode is over."
        assert played.get_reward() == 1.0
        assert played.reply("more") == "The episode is over." and played.get_reward() == 1.0
