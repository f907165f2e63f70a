"""Every world answers the same questions: found by globbing the folder, so a new world is tested by being there."""

from dataclasses import replace
from functools import cache
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import perform, score, text_of

from nanoschool import envs
from nanoschool.types import (
    Ask,
    Environment,
    HasCompletions,
    HasDemonstrations,
    HasDocuments,
    HasOracle,
    HasSteps,
    Task,
    UserError,
)

NAMES = envs.names()
NONSENSE = (
    "",
    " ",
    "1e309",
    "#### ",
    "#### " + "9" * 5000,
    "9" * 100_000,
    "b=3+4=7; " * 11_000,
    "b=3+4=" + "1" * 100_000 + " #### 7",
    "tam: " + "a k, " * 20_000,
    "٣+٤=٧ #### ٧",
    "So b=" * 20_000 + "So b=٧",
    "\x00\ud800𝒳\u202e",
    " \n" * 50_000,
)


@pytest.fixture(params=NAMES)
def world(request) -> Environment:
    return envs.load(request.param)


# The registry


def test_registry_lists_worlds_and_nothing_else():
    assert {"chain", "sums", "steps", "rules", "facts", "stories"} <= set(NAMES)
    assert not {"common", "scratchpad", "oneword", "__init__"} & set(NAMES)
    assert list(envs.describe()) == NAMES
    assert all(line.startswith(f"{name}:") for name, line in envs.describe().items())
    assert all(envs.load(name).name == name for name in NAMES)


def test_unknown_world_gets_the_nearest_name():
    with pytest.raises(UserError, match=r"'chian'.*'chain'.*stories"):
        envs.load("chian")


def test_a_users_own_file_is_a_world(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from nanoschool.envs.chain import Chain\nWORLD = Chain(lengths=(2,))\n"
    )
    assert envs.load(str(tmp_path / "mine.py")).tasks("train", 1)[0].data["L"] == 2
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(UserError, match="no WORLD"):
        envs.load(str(tmp_path / "empty.py"))
    (tmp_path / "broken.py").write_text("WORLD = (\n")
    with pytest.raises(UserError, match=r"broken\.py:1: is not Python"):
        envs.load(str(tmp_path / "broken.py"))
    with pytest.raises(UserError, match="no such file"):
        envs.load(str(tmp_path / "none.py"))


# What every world owes


def test_tasks_follow_from_the_seed_and_are_distinct(world):
    tasks = world.tasks("train", 60, seed=3)
    assert list(tasks) == list(world.tasks("train", 60, seed=3)) != list(world.tasks("train", 60, seed=4))
    assert len({task.problem for task in tasks}) == 60
    with pytest.raises(UserError, match="unknown split 'trian'"):
        world.tasks("trian", 1)


def test_same_replies_same_transcript(world):
    for task in world.tasks("dev", 20):
        for replies in (["b=1+1=2 #### 2"], ["tam: a k"], ["baker"], ["x"]):
            assert perform(world.play(task), replies) == perform(world.play(task), replies)


def test_nonsense_scores_nothing_and_never_raises(world):
    for task in world.tasks("dev", 3):
        for reply in NONSENSE:
            assert score(world, task, reply) == 0.0
            if isinstance(world, HasOracle):
                assert world.oracle(task, [], reply).value in (0.0, 1.0)
                assert world.oracle(task, [reply]).value == 0.0
            if isinstance(world, HasSteps):
                offsets = world.steps(reply)
                assert offsets == sorted(set(offsets)) and all(0 <= at <= len(reply) for at in offsets)


replies_like = st.one_of(
    st.text(max_size=200),
    st.text(alphabet="abc=+-*;# 0123456789", max_size=60),
    st.text(alphabet="tam: KQno,", max_size=40),
    st.from_regex(
        r"([a-z]=[0-9]{1,3}[+*-][0-9]=[0-9]{1,3}; ){0,3}(b=1\+1=2)? #### [0-9]{1,3}", fullmatch=True
    ),
    st.sampled_from(["baker", "cat", "garden", "Tom", " red", "no"]),
)


@cache
def twenty(name: str) -> list[Task]:
    return list(envs.load(name).tasks("dev", 20))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None)
@given(reply=replies_like, at=st.integers(0, 19))
def test_rewards_are_within_bounds(name, reply, at):
    world = envs.load(name)
    task = twenty(name)[at]
    asks, outcome = perform(world.play(task), [reply])
    assert outcome.rewards is not None and all(0.0 <= reward <= 1.0 for reward in outcome.rewards)
    assert all(isinstance(ask, Ask) for ask in asks)
    if isinstance(world, HasCompletions):
        for answer_format in world.formats:
            asks, outcome = perform(world.complete(task, answer_format), [reply])
            assert asks[0].role == "text" and "\n" in asks[0].stop
            assert outcome.rewards is not None and 0.0 <= outcome.rewards[0] <= 1.0


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_demonstrations_and_the_oracle_score_the_maximum(world, split):
    for task in world.tasks(split, 100):
        if isinstance(world, HasDemonstrations):
            asked, shown = world.demonstration(task)
            asks, outcome = perform(world.play(task), [shown.content])
            assert (asked.role, shown.role) == ("user", "assistant") and asked.content == asks[0].text
            assert outcome.rewards == (1.0,) and outcome.feedback == ""
            assert outcome.info.get("wellformed", True) is True
        if isinstance(world, HasOracle):
            oracle = world.oracle(task, [])
            assert oracle.value == 1.0 and oracle.first_error is None and oracle.best_replies
            for best in oracle.best_replies:
                assert score(world, task, best) == 1.0
                assert world.oracle(task, [best]).value == 1.0


def test_documents_follow_from_the_rng_and_have_something_to_learn(world):
    if not isinstance(world, HasDocuments):
        pytest.skip("a world without documents")
    written = [world.document(Random(seed)) for seed in range(300)]
    assert written == [world.document(Random(seed)) for seed in range(300)]
    assert all(any(learned for _, learned in document) for document in written)
    assert all(text_of(document).endswith("\n") for document in written)
    assert len({text_of(document) for document in written}) > 270


@pytest.mark.parametrize(
    "name, setting, value",
    [
        ("chain", "lengths", (0, 3)),
        ("chain", "document_lengths", ()),
        ("sums", "digits", 9),
        ("rules", "size", 27),
        ("rules", "entries", 8),
        ("rules", "asked", ()),
        ("facts", "kinds", ("shut",)),
        ("facts", "people", 1601),
        ("facts", "exposures", (0, 0)),
        ("stories", "moves", (0,)),
    ],
)
def test_a_setting_out_of_range_is_named(name, setting, value):
    with pytest.raises(UserError, match=f"world {name}: {setting}="):
        replace(envs.load(name), **{setting: value})
