"""Every world answers the same questions: found by globbing the folder, so a new world is tested by being there."""

import json
from dataclasses import replace
from functools import cache
from random import Random
from statistics import fmean, stdev

import pytest
from hostile import LONGEST, NONSENSE, bear, hostile_play
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import text_of

from nanoschool import envs
from nanoschool.lab.catalogue import entry
from nanoschool.lab.scripted import Played, cut, guesser, oracle, perform, scores, tasks_of
from nanoschool.types import (
    SPLITS,
    Environment,
    HasDemonstrations,
    HasDocuments,
    HasGuesses,
    HasOracle,
    Message,
    Task,
    UserError,
)

NAMES = envs.names()
BEGINNERS = {"taste"}  # whose demonstrations leave something to learn


@pytest.fixture(params=NAMES)
def world(request) -> Environment:
    return envs.load(request.param)


# The registry


def test_registry_lists_worlds_and_nothing_else():
    assert {"chain", "sums", "steps", "rules", "facts", "stories"} <= set(NAMES)
    assert not {"common", "scratchpad", "oneword", "__init__"} & set(NAMES)
    assert list(envs.describe()) == NAMES
    assert envs.phrase(envs.load("nim")).startswith("take from one pile") and envs.phrase(object()) == ""
    assert all(line.startswith(f"{name}:") for name, line in envs.describe().items())
    assert all(envs.load(name).name == name for name in NAMES)


def test_unknown_world_gets_the_nearest_name():
    with pytest.raises(UserError, match=r"'chian'.*'chain'.*stories"):
        envs.load("chian")


def test_a_users_own_file_is_a_world(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "from nanoschool.envs.chain import Chain\n@dataclass(frozen=True)\nclass Mine(Chain):\n    more: int = 0\n"
        "WORLD = Mine(lengths=(2,))\n"
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
    (tmp_path / "loud.py").write_text("\nimport json\nWORLD = json.loads('')\n")
    with pytest.raises(UserError, match=r"loud\.py:3: JSONDecodeError: Expecting value"):
        envs.load(str(tmp_path / "loud.py"))


# What every world owes


@cache
def some(name: str, split: str = "dev", count: int = 40) -> list[Task]:
    return tasks_of(envs.load(name), split, count)


def test_tasks_follow_from_the_seed_and_are_distinct(world):
    count = len(some(world.name, "train", 60))
    tasks = world.tasks("train", count, seed=3)
    assert (
        list(tasks) == list(world.tasks("train", count, seed=3)) != list(world.tasks("train", count, seed=4))
    )
    assert len({task.problem for task in tasks}) == count
    assert list(tasks[: count // 2]) == list(world.tasks("train", count // 2, seed=3))
    for task in tasks:  # one that was read from a file is the same task
        read = replace(task, data=json.loads(json.dumps(dict(task.data))))
        assert bear(world, read, ["", "x"]) == bear(world, task, ["", "x"])
    with pytest.raises(UserError, match="unknown split 'trian'"):
        world.tasks("trian", 1)


def test_a_tasks_data_is_plain_json(world):
    for split in SPLITS:
        for task in some(world.name, split):
            assert json.loads(json.dumps(task.data, allow_nan=False)) == task.data


def test_splits_are_disjoint(world):
    problems = [{task.problem for task in some(world.name, split, 150)} for split in SPLITS]
    assert all(problems) and len(set.union(*problems)) == sum(map(len, problems))


def test_same_replies_same_transcript(world):
    assert world.replayable
    for at, task in enumerate(some(world.name)):
        replies = hostile_play(Random(at), world, task)
        assert bear(world, task, replies) == bear(world, task, replies)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None)
@given(
    noise=st.lists(st.text(max_size=300), min_size=1, max_size=3),
    times=st.sampled_from([1, 1, 1, 30, 1000, LONGEST]),
    at=st.integers(0, 39),
)
def test_any_text_is_borne(name, noise, times, at):
    tasks = some(name)
    bear(envs.load(name), tasks[at % len(tasks)], [(text * times)[:LONGEST] for text in noise])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), at=st.integers(0, 39))
def test_replies_that_are_nearly_right_are_borne(name, seed, at):
    world, tasks = envs.load(name), some(name)
    bear(world, tasks[at % len(tasks)], hostile_play(Random(seed), world, tasks[at % len(tasks)]))


@pytest.mark.soak
@pytest.mark.parametrize("name", NAMES)
def test_ten_thousand_hostile_replies(name):
    world, rng = envs.load(name), Random(name)
    tasks = some(name, "dev", 200)
    for number in range(10_000):
        task = tasks[number % len(tasks)]
        bear(world, task, hostile_play(rng, world, task))


def test_nonsense_earns_nothing(world):
    for task in some(world.name)[:3]:
        for reply in NONSENSE:
            rewards = bear(world, task, [reply]).rewards
            assert rewards is None or rewards[0] <= 0.0


def test_perfect_play_earns_what_the_oracle_says(world):
    """Exactly where nothing is hidden; on average, within four standard errors, where chance plays along."""
    if not isinstance(world, HasOracle):
        pytest.skip("a world without an oracle")
    differences = []
    for task in some(world.name, "test", 200):
        truth = world.oracle(task, [])
        assert truth.first_error is None and truth.best_replies
        played = perform(world.play(task), oracle(world, task))
        if played.rewards is not None:
            differences.append(played.rewards[0] - truth.value)
            after = world.oracle(task, played.replies).value
            last = played.asks[-1].seat
            assert after == pytest.approx(played.rewards[last])
    error = stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
    assert abs(fmean(differences)) <= 4 * error + 1e-9


def test_nobody_earns_more_than_perfect_play(world):
    """Where nothing is hidden and nobody sits opposite, neither guesses nor spoilt right replies do."""
    if not isinstance(world, HasOracle):
        pytest.skip("a world without an oracle")
    rng = Random(5)
    for task in some(world.name):
        truth = world.oracle(task, [])
        for _ in range(10):
            played = bear(world, task, hostile_play(rng, world, task))
            if played.rewards is not None and len(played.rewards) == 1 and truth.entropy_bits == 0:
                assert played.rewards[0] <= truth.value + 1e-9


@pytest.mark.parametrize("split", SPLITS)
def test_demonstrations_are_good_play(world, split):
    """They may pay for a tool that perfect play would not need, so they earn nearly what the oracle says."""
    if not isinstance(world, HasDemonstrations):
        pytest.skip("a world without demonstrations")
    earned, best = [], []
    for task in some(world.name, split, 60):
        said = world.demonstration(task)
        said = said[said[0].role == "system" :]  # notes stand before what the world says
        shown = [message.content for message in said if message.role == "assistant"]
        assert [message.role == "assistant" for message in said] == [False, True] * len(shown)
        if (played := one_sided(world, task, said)) is not None:
            assert [(m.role, m.content) for m in said[::2]] == [(ask.role, ask.text) for ask in played.asks]
            assert played.outcome.info.get("wellformed", True) is True
            if played.rewards is not None and isinstance(world, HasOracle):
                earned.append(played.rewards[0])
                best.append(world.oracle(task, []).value)
                assert (0 if world.name in BEGINNERS else 1e-9) <= earned[-1] <= best[-1] + 1e-9
    if earned and world.name not in BEGINNERS:
        assert fmean(earned) >= 0.8 * fmean(best)


def one_sided(world: Environment, task: Task, said: list[Message]) -> Played | None:
    """The episode of these replies; None where another seat is asked as well, or if they are another seat's."""
    episode, asks = world.play(task), []
    replies = [message.content for message in said if message.role == "assistant"]
    if said[0].content != next(world.play(task)).text:
        rewards = perform(world.play(task), guesser(world, task)).rewards
        assert rewards is not None and len(rewards) > 1
        return None
    try:
        asks.append(next(episode))
        for reply in replies:
            asks.append(episode.send(cut(reply, asks[-1].stop)))
            if asks[-1].seat:
                return None
    except StopIteration:
        return perform(world.play(task), lambda ask, before: replies[len(before)])
    raise AssertionError("the demonstration ends before the episode does")


def test_guesses_are_well_formed_and_as_many_as_is_said(world):
    if not isinstance(world, HasGuesses):
        pytest.skip("a world without guesses")
    for at, task in enumerate(some(world.name)[:10]):
        space = world.answer_space(task)
        guesses = [world.guess(task, [], Random(f"{at}/{draw}")) for draw in range(20 * min(space, 64))]
        assert guesses == [world.guess(task, [], Random(f"{at}/{draw}")) for draw in range(len(guesses))]
        assert 1 <= len(set(guesses)) <= space
        if space <= 64:
            assert len(set(guesses)) == space
        played = perform(world.play(task), guesser(world, task))
        assert len(played.asks) > 1 or played.outcome.info.get("wellformed", True) is True


def test_chance_is_below_perfect_play(world):
    if not isinstance(world, HasGuesses) or not isinstance(world, HasOracle):
        pytest.skip("a world without guesses or an oracle")
    tasks = some(world.name, "test", 200)
    if perform(world.play(tasks[0]), guesser(world, tasks[0])).rewards is None:
        pytest.skip("a world without rewards")
    chance, best = (fmean(scores(world, policy, tasks)) for policy in ("random", "oracle"))
    assert chance < best


def test_documents_follow_from_the_rng_and_have_something_to_learn(world):
    if not isinstance(world, HasDocuments):
        pytest.skip("a world without documents")
    written = [world.document(Random(seed)) for seed in range(300)]
    assert written == [world.document(Random(seed)) for seed in range(300)]
    assert all(any(learned for _, learned in document) for document in written)
    assert all(text_of(document).endswith("\n") for document in written)
    assert len({text_of(document) for document in written}) > 200


@pytest.mark.soak
def test_scripted_episodes_are_fast(world):
    """At least 20,000 a second where there is one turn; else as long for each turn, and once more for the whole."""
    measured = entry(world, 100)
    mean, most = measured.turns
    assert measured.seconds <= 0.05 * (mean + (most > 1))


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
