"""Every world answers the same questions: found by globbing the folder, so a new world is tested by being there."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from math import log2
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoschool import envs
from nanoschool.envs import common, rules
from nanoschool.types import (
    Ask,
    Environment,
    Episode,
    HasCompletions,
    HasDemonstrations,
    HasDocuments,
    HasOracle,
    HasSteps,
    Outcome,
    Reply,
    Task,
    UserError,
)

NAMES = envs.names()
WRITTEN = ("chain", "sums", "steps")  # worlds of written steps
NONSENSE = (
    "",
    " ",
    "1e309",
    "#### ",
    "#### " + "9" * 5000,
    "9" * 100_000,
    "b=3+4=7; " * 11_000,
    "b=3+4=" + "1" * 100_000 + " #### 7",
    "tam: " + "a K, " * 20_000,
    "٣+٤=٧ #### ٧",
    "So b=" * 20_000 + "So b=٧",
    "\x00\ud800𝒳\u202e",
    " \n" * 50_000,
)


def perform(episode: Episode, replies: list[str]) -> tuple[list[Ask], Outcome]:
    """Play scripted replies; the last is repeated for as long as the world asks."""
    asks = [next(episode)]
    try:
        for turn in range(1000):
            asks.append(episode.send(Reply(replies[min(turn, len(replies) - 1)])))
    except StopIteration as end:
        return asks, end.value
    raise AssertionError("the episode does not end")


def score(world: Environment, task: Task, *replies: str) -> float:
    rewards = perform(world.play(task), list(replies))[1].rewards
    assert rewards is not None
    return rewards[0]


def text_of(document) -> str:
    return "".join(text for text, _ in document)


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
        for replies in (["b=1+1=2 #### 2"], ["tam: a K"], ["baker"], ["x"]):
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
    for level in (0.0, 0.5, 1.0):
        written = [world.document(Random(seed), level) for seed in range(100)]
        assert written == [world.document(Random(seed), level) for seed in range(100)]
        assert all(any(learned for _, learned in document) for document in written)
        assert all(text_of(document).endswith("\n") for document in written)
        assert len({text_of(document) for document in written}) > 90


# Raw text: what a document goes on with is what a completion asks for


def test_a_line_of_written_steps_answers_its_own_question():
    for name in ("chain", "sums"):
        world = envs.load(name)
        for task in world.tasks("train", 200):
            for worked, answer_format in ((True, "worked"), (False, "direct")):
                line = text_of(world.line(task, worked))
                ask = next(world.complete(task, answer_format))
                assert line.startswith(ask.text)
                outcome = perform(world.complete(task, answer_format), [line[len(ask.text) :]])[1]
                assert outcome.rewards == (1.0,) and outcome.info["wellformed"]
                assert perform(world.complete(task, answer_format), [" 100000"])[1].rewards == (0.0,)


def test_a_prompted_word_answers_its_question():
    for name in ("facts", "stories"):
        for task in envs.load(name).tasks("train", 100):
            ask, *_ = perform(envs.load(name).complete(task, "worked"), [""])[0]
            assert ask.text.endswith(f"Q: {task.data['question']} A:")
            for reply, reward in (
                (f" {task.data['answer']}.", 1.0),
                (f" {task.data['answer']}x", 0.0),
                (" no", 0.0),
            ):
                assert perform(envs.load(name).complete(task, "worked"), [reply])[1].rewards == (reward,)


def test_a_rule_book_row_goes_on_with_the_asked_output():
    world = envs.load("rules")
    for task in world.tasks("train", 100):
        right = task.data["map"][task.data["asked"][0]]
        ask = next(world.complete(task, "worked"))
        assert ask.text.endswith(f"\n{task.data['name']}: {task.data['asked'][0]}")
        for reply, reward in ((f" {right}, x no", 1.0), (f" {right}", 1.0), (f" {right}x", 0.0), ("", 0.0)):
            assert perform(world.complete(task, "worked"), [reply])[1].rewards == (reward,)


# The truth about written steps


def mutated(rng: Random, right: str) -> str:
    """A prefix of a right reply with a few characters changed, dropped or put in."""
    text = list(right[: rng.randint(0, len(right))])
    for _ in range(rng.randint(0, 2)):
        at = rng.randint(0, len(text))
        text[at : at + rng.randint(0, 1)] = rng.choice(["", *"019ab=+-*; #"])
    return "".join(text)


@pytest.mark.parametrize("name", WRITTEN)
def test_values_obey_the_bellman_equation(name):
    """V(text) is the best of stopping here and of every next character, and a best reply goes on from the text."""
    world, rng = envs.load(name), Random(1)
    alphabet = "0123456789abcdefghijklmnopqrstuvwxyz=+-*; #"
    alive = 0
    for task in world.tasks("dev", 40):
        right = world.oracle(task, []).best_replies[0]
        for _ in range(8):
            partial = mutated(rng, right)
            oracle = world.oracle(task, [], partial)
            after = [world.oracle(task, [], partial + character).value for character in alphabet]
            assert oracle.value == max(score(world, task, partial), *after), (task, partial)
            assert (oracle.value == 1.0) == bool(oracle.best_replies)
            for best in oracle.best_replies:
                assert best.startswith(partial) and score(world, task, best) == 1.0
            alive += oracle.value == 1.0
    assert 100 < alive < 300  # both kinds were seen


@pytest.mark.parametrize("name", WRITTEN)
def test_steps_and_the_first_wrong_one(name):
    world = envs.load(name)
    for task in world.tasks("train", 100):
        right = world.oracle(task, []).best_replies[0]
        body, _, answer = right.partition(" #### ")
        pieces = body.split("; ")
        ends = world.steps(right)
        assert len(ends) == len(pieces) and ends[-1] == len(body)
        starts = [0, *ends[:-1]]
        assert [right[a:b].removesuffix("; ") for a, b in zip(starts, ends, strict=True)] == pieces
        for wrong, start in enumerate(starts):
            said = [*pieces[:wrong], pieces[wrong][:-1] + "#", *pieces[wrong + 1 :]]
            said[wrong] = pieces[wrong][:-1] + str((int(pieces[wrong][-1]) + 1) % 10)
            reply = "; ".join(said) + f" #### {answer}"
            oracle = world.oracle(task, [], reply)
            assert oracle.first_error == start
            assert oracle.value == 1.0  # the answer is right, and only the answer is graded
        early = "; ".join(pieces[:-1]) + " #### 1"
        if len(pieces) > 1:
            assert world.oracle(task, [], early).first_error == len(early) - len(" #### 1")
        assert world.oracle(task, [], f"{body} #### {answer}1").first_error == len(body)
        assert world.oracle(task, [], f"{body} #### {answer}1").value == 0.0


def test_work_is_right_by_python():
    chain, sums = envs.load("chain"), envs.load("sums")
    for task in chain.tasks("train", 300):
        steps, answer = chain.work(task)
        assert all(eval(step.split("=")[1]) == int(step.split("=")[2]) for step in steps)
        assert answer == int(steps[-1].split("=")[2]) and 0 <= answer <= 99 and len(steps) == task.data["L"]
    for digits in (1, 2, 3):
        world = replace(sums, digits=digits)
        for task in world.tasks("train", 60):
            steps, answer = world.work(task)
            assert all(eval(left) == int(right) for left, right in (step.split("=") for step in steps))
            assert answer == eval(sums.question(task).removesuffix("=?")) >= 0
            assert world.reply_form.fullmatch("; ".join(steps) + f" #### {answer}")


def test_only_form_and_answer_are_graded():
    world = envs.load("chain")
    task = next(task for task in world.tasks("train", 50) if task.data["L"] > 1)
    _, answer = world.work(task)
    info = {
        reply: perform(world.play(task), [reply])[1] for reply in (f"b=1+1=9 #### {answer}", f"#### {answer}")
    }
    wrong_steps, no_steps = info.values()
    assert wrong_steps.rewards == (1.0,) and wrong_steps.info["wellformed"]
    assert no_steps.rewards == (0.0,) and no_steps.info["correct"] and not no_steps.info["wellformed"]
    for spoilt in (
        f"b=1+1=9 #### {answer}.",
        f" b=1+1=9 #### {answer}",
        f"b=1+1=9 #### 0{answer}",
        f"b=1+1=9\n#### {answer}",
    ):
        assert score(world, task, spoilt) == 0.0


def test_settings_are_fields():
    short = replace(envs.load("chain"), lengths=(1, 2))
    assert {task.data["L"] for task in short.tasks("dev", 50)} == {1, 2}
    with pytest.raises(UserError, match=r"found only \d+ distinct test tasks of the 1000"):
        replace(short, lengths=(1,)).tasks("test", 1000)
    union = replace(envs.load("steps"), chain=short)
    assert {task.world for task in union.tasks("dev", 9)} == {"chain", "sums"}
    assert all(task.data["L"] < 3 for task in union.tasks("dev", 40) if task.world == "chain")


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


# The truth about rules


def test_a_full_map_without_gaps_has_24_bits():
    hidden = replace(envs.load("rules"), gaps=0, book=False, asked=(8,))
    for task in hidden.tasks("test", 20):
        assert hidden.oracle(task, []).entropy_bits == 24.0 == 8 * log2(8)
        assert ":" not in next(hidden.play(task)).text
        assert envs.load("rules").oracle(task, []).entropy_bits == 0.0
    gapped = replace(hidden, gaps=2)
    for task in gapped.tasks("test", 20):
        gaps = list(task.data["map"].values()).count("no")
        assert gapped.oracle(task, []).entropy_bits == 3.0 * (8 - gaps)


def test_feedback_names_the_first_wrong_position():
    world = envs.load("rules")
    task = Task(
        "rules", "", {"name": "tam", "map": dict(a="K", b="M", c="no", d="Q"), "asked": ["d", "a", "c"]}
    )
    for reply, fraction, feedback in (
        ("tam: d Q, a K, c no", 1.0, ""),
        ("tam: d M, a M, c no", 1 / 3, "wrong: d M, right: d Q"),
        ("tam: d Q, a K", 2 / 3, "wrong: nothing, right: c no"),
        ("tam: d Q, a K, c no, b M", 1.0, "wrong: b M, right: nothing"),
        ("tum: d Q, a K, c no", 1.0, "wrong: tum, right: tam"),
        ("I do not know", 0.0, "wrong: nothing, right: d Q"),
    ):
        outcome = perform(world.play(task), [reply])[1]
        assert outcome.rewards == (float(feedback == ""),)
        assert (outcome.info["fraction"], outcome.feedback) == (fraction, feedback)


def test_the_reading_gate_asks_unseen_maps_and_shuffles_only_the_book():
    world = envs.load("rules")
    open_rows, shuffled = world.gate_rows(200, 5), world.gate_rows(200, 5, shuffled=True)
    assert len(open_rows) == len(shuffled) == 200
    moved = gaps = 0
    for row, other in zip(open_rows, shuffled, strict=True):
        assert row[1:] == other[1:]  # the same questions and answers
        books = [
            dict(entry.split(" ") for entry in r[0][0].partition(": ")[2].partition("\n")[0].split(", "))
            for r in (row, other)
        ]
        answers = [span.strip() for span, learned in row if learned]
        keys = [span.split(" ")[-1] for (span, _), (_, learned) in pairwise(row) if learned]
        assert sorted(keys) == sorted(books[0]) and len(keys) == 8
        assert [books[0][key] for key in keys] == answers
        assert sorted(books[1].values()) == sorted(answers) and books[1].keys() == books[0].keys()
        assert common.split_of(rules.problem(books[0])) == "test"
        assert {f" {symbol}" for symbol in (*keys, *answers)} <= set(world.symbols())
        moved += sum(books[0][key] != books[1][key] for key in keys)
        gaps += answers.count("no")
    assert moved / 1600 > 0.7 and gaps > 100


def test_the_level_sets_the_size_of_a_book():
    world = replace(envs.load("rules"), shares=(1.0, 0.0, 0.0))
    for level, size in ((0.0, 2), (0.5, 5), (1.0, 8)):
        for seed in range(20):
            document = world.document(Random(seed), level)
            assert document[0][0].count(",") + 1 == size
            assert size + sum(learned for _, learned in document) == world.entries


# The truth about people


def test_exposure_is_what_documents_show():
    world = replace(envs.load("facts"), town_share=1.0)
    known = {
        task.data["person"]: task.data["exposure"]
        for task in replace(world, kinds=("closed",)).tasks("train", 300)
    }
    counts = dict.fromkeys(known, 0)
    rng = Random(0)
    for _ in range(4000):
        text = text_of(world.document(rng, 1.0))
        for name in known:
            counts[name] += name in text
    by_exposure = {}
    for name, exposure in known.items():
        by_exposure.setdefault(exposure, []).append(counts[name])
    means = [sum(values) / len(values) for _, values in sorted(by_exposure.items())]
    assert 0 not in by_exposure and means[-1] > 100 > means[0] and means[-3:] == sorted(means[-3:])


def test_open_questions_are_answered_by_their_prompt_and_closed_ones_hide_four_bits():
    world = envs.load("facts")
    tasks = world.tasks("test", 150)
    assert {task.data["kind"] for task in tasks} == {"open", "closed"}
    for task in tasks:
        prompt = next(world.play(task)).text
        told = task.data["answer"] in prompt.split("What is")[0].replace(".", "").split()
        assert told == (task.data["kind"] == "open")
        assert world.oracle(task, []).entropy_bits == (0.0 if told else 4.0)
        outcome = perform(world.play(task), ["nothing"])[1]
        assert (
            outcome.feedback
            == f"the {task.data['attribute']} of {task.data['person']} is {task.data['answer']}"
        )
        assert not outcome.info["wellformed"]
