"""What the desk owes beyond the contract: exact plans, a shell that nothing breaks, and scores for states, not words."""

from dataclasses import replace
from functools import cache
from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import perform, score, text_of
from tiny import tokenizer

from nanoschool import envs
from nanoschool.core.chat import render
from nanoschool.envs.chores import KINDS, largest
from nanoschool.envs.common import split_of, words
from nanoschool.envs.disk import Disk
from nanoschool.envs.plans import distance
from nanoschool.envs.shell import run
from nanoschool.types import Task, UserError

DESK = envs.load("desk")


def lines_of(task: Task) -> list[str]:
    return [message.content for message in DESK.demonstration(task) if message.role == "assistant"]


# The shell

FILES = {"ash": "red 3", "elm": "blue 4 red 5", "oak": "", "box/": None, "box/fir": "key"}


@pytest.mark.parametrize(
    "line, answer",
    [
        ("ls", "ash box/ elm oak"),
        ("ls box/", "fir"),
        ("find fi", "box/fir"),
        ("cat ash elm", "red 3\nblue 4 red 5"),
        ("grep red", "ash: red 3\nelm: blue 4 red 5"),
        ("grep red elm", "elm: blue 4 red 5"),
        ("grep re", "nothing"),
        ("wc", "ash: 2\nbox/fir: 1\nelm: 4\noak: 0"),
        ("grep red | wc", "8"),
        ("sum", "12"),
        ("grep blue | sum", "9"),
        ("sort elm | head 2", "4 5"),
        ("head 1 elm", "blue"),
        ("open home", "home: see mill"),
        ("follow mill", "error: no such link here"),
        ("back", "error: no page before"),
        ("rm box/", "error: not empty"),
        ("mv box/ bag/", "error: no file box/"),
        ("cat pine", "error: no file pine"),
        ("mv ash bag/", "error: no folder bag/"),
        ("mv ash ash", "error: the same file"),
        ("rm ash | sum", "error: rm stands alone"),
        ("rm ash > elm", "error: rm stands alone"),
        ("echo x > ../ash", "error: bad name"),
        ("echo x > /etc/passwd", "error: bad name"),
        ("cat /etc/passwd", "error: no file /etc/passwd"),
        ("ls |", "error: no such command"),
        ("ls > a > b", "error: not a command line"),
        ("mv ash", "error: mv takes other words"),
        ("head x ash", "error: head takes a number"),
    ],
)
def test_reading_and_refusing_leave_the_disk_alone(line, answer):
    disk = Disk(dict(FILES), {"home": "home: see mill", "mill": "mill: end"})
    assert run(disk, line) == answer and disk.files == FILES
    assert (disk.errors == 1) == answer.startswith("error:")


@pytest.mark.parametrize(
    "line, changed",
    [
        ("mv ash box/", {"ash": ..., "box/ash": "red 3"}),
        ("mv ash elm", {"ash": ..., "elm": "red 3"}),
        ("cp box/fir fir", {"fir": "key"}),
        ("rm oak", {"oak": ...}),
        ("mkdir bag", {"bag/": None}),
        ("replace red pink elm", {"elm": "blue 4 pink 5"}),
        ("echo a  b > oak", {"oak": "a b"}),
        ("echo 6 >> ash", {"ash": "red 3 6"}),
        ("echo > ash", {"ash": ""}),
        ("grep red | sum > box/n", {"box/n": "12"}),
    ],
)
def test_changing_lines_change_what_they_say(line, changed):
    disk = Disk(dict(FILES), {})
    assert run(disk, line) == "ok"
    assert disk.files == {path: text for path, text in (FILES | changed).items() if text is not ...}


def test_pages_are_walked():
    disk = Disk({}, {"home": "home: next mill, see barn", "mill": "mill: end", "barn": "barn: see home"})
    walk = [
        "open home",
        "follow barn",
        "follow home",
        "follow mill",
        "back",
        "back",
        "open mill | head 1 > x",
    ]
    assert [run(disk, line) for line in walk][4:] == ["home: next mill, see barn", "barn: see home", "ok"]
    assert disk.files == {"x": "mill:"}


# Plans


def test_distance_is_what_a_search_finds():
    """Breadth first through every line over a few names and contents, from random disks to random goals."""
    names, contents, rng = ("a", "b", "f/a"), ("x", "y", ""), Random(5)
    lines = ["mkdir f/", "rm f/", *(f"rm {a}" for a in names)]
    lines += [f"{verb} {a} {b}" for verb in ("mv", "cp") for a, b in product(names, names)]
    lines += [f"echo {text} > {a}" for a in names for text in contents]
    lines += [f"{verb} a f/" for verb in ("mv", "cp")] + [f"replace x y {a}" for a in names]

    def disk() -> dict[str, str | None]:
        files: dict[str, str | None] = {"f/": None} if rng.random() < 0.6 else {}
        return files | {
            name: rng.choice(contents) for name in names if rng.random() < 0.6 and ("/" not in name or files)
        }

    found = set()
    for _ in range(12):
        start = disk()
        at = {frozenset(start.items()): 0}
        frontier = [start]
        while frontier:
            files = frontier.pop(0)
            for line in lines:
                later = Disk(dict(files), {})
                run(later, line)
                if (key := frozenset(later.files.items())) not in at:
                    at[key] = at[frozenset(files.items())] + 1
                    frontier.append(later.files)
        assert len(at) == 80  # 4^2 with no folder, 4^3 with one
        for key, steps in at.items():
            assert distance(start, dict(key)) == steps, (start, dict(key))
            found.add(steps)
    assert found >= {0, 1, 2, 3, 4}


@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_is_as_long_as_it_says_and_reaches_the_goal(kind):
    for sizes in ((1, 2, 3), (largest(kind),)):
        world = replace(DESK, kinds=(kind,), sizes=sizes, shown=600)
        for task in world.tasks("dev", 8, seed=1):
            messages = world.demonstration(task)
            lines = [message.content for message in messages if message.role == "assistant"]
            asks, outcome = perform(world.play(task), lines)
            assert outcome.rewards == (1.0,) and outcome.feedback == "" and outcome.info["wellformed"]
            assert outcome.info["steps"] == outcome.info["optimal"] == len(lines) >= 3
            assert [ask.text for ask in asks] == [m.content for m in messages if m.role != "assistant"]
            assert [ask.role for ask in asks] == ["user"] + ["tool"] * (len(asks) - 1)
            assert len(task.data["acts"]) == distance(task.data["files"], task.data["goal"])
            assert not any("error" in ask.text or "..." in ask.text for ask in asks)
            assert len(lines) <= 30


def test_the_value_is_that_of_the_best_line_and_best_replies_reach_it():
    """The Bellman equation over the short lines and the task's own, from states that random play reached."""
    rng, lost = Random(3), 0
    world = replace(DESK, slack=1)
    for task in world.tasks("dev", 40):
        replies: list[str] = []
        while True:
            oracle = world.oracle(task, replies)
            if world._after(task, replies).over:
                assert oracle.value == score(world, task, *replies)
                break
            tried = [world.guess(task, replies, rng) for _ in range(8)]
            lines = [*oracle.best_replies, *tried, *(f"{act}\n" for act in task.data["acts"])]
            values = {line: world.oracle(task, [*replies, line]).value for line in lines}
            assert oracle.value == max(values.values())
            assert all(values[best] == 1.0 for best in oracle.best_replies)
            assert bool(oracle.best_replies) == (oracle.value == 1.0)
            lost += oracle.value == 0.0
            good = oracle.best_replies and rng.random() < 0.6
            replies.append(rng.choice(oracle.best_replies) if good else tried[0])
    assert lost > 20


def test_from_any_state_with_value_the_best_replies_win():
    rng, won = Random(4), 0
    for task in DESK.tasks("dev", 60):
        replies = [DESK.guess(task, [], rng).replace("done", "ls") for _ in range(rng.randint(0, 4))]
        if DESK.oracle(task, replies).value == 0.0:
            continue
        while best := DESK.oracle(task, replies).best_replies:
            replies.append(best[0])
        assert score(DESK, task, *replies) == 1.0
        won += 1
    assert won > 40


def test_the_oracle_writes_no_fact_that_was_not_shown():
    """What is best before the last page is open does not depend on what stands there; the same of grep's files."""
    for task in replace(DESK, kinds=("browse",)).tasks("dev", 30):
        fact = next(iter(task.data["goal"].values()))
        lines = lines_of(task)
        shown = [m.content for m in DESK.demonstration(task) if m.role == "tool"]
        written = next(at for at, line in enumerate(lines) if fact in line.split())
        assert fact in shown[written - 1].split()
        assert not any(fact in answer.split() for answer in shown[: written - 1])
    next_line: dict[tuple[str, ...], set[str]] = {}
    for task in replace(DESK, kinds=("remove", "rename", "sort")).tasks("train", 400):
        next_line.setdefault((task.data["ask"],), set()).add(lines_of(task)[0])
    assert all(len(lines) == 1 for lines in next_line.values())


def test_partial_lines():
    task = next(task for task in DESK.tasks("dev", 50) if task.data["kind"] == "move")
    assert DESK.oracle(task, [], "gre").best_replies[0].startswith("grep ")
    wasted = DESK.oracle(task, [], "rm zz")
    assert wasted.value == 1.0 and score(DESK, task, wasted.best_replies[0], *lines_of(task)) == 1.0
    idle = ["ls\n"] * (task.data["optimal"] + DESK.slack - len(task.data["acts"]))
    act = task.data["acts"][0]
    assert DESK.oracle(task, idle).value == DESK.oracle(task, idle, act[:5]).value == 1.0
    assert DESK.oracle(task, idle, "ls").value == DESK.oracle(task, [*idle, "ls\n"]).value == 0.0
    assert DESK.oracle(task, [], "done\n").value == 0.0


# Scores


def test_any_other_change_fails_and_is_named():
    task = next(task for task in DESK.tasks("dev", 50) if task.data["kind"] == "rename")
    lines = lines_of(task)
    assert perform(DESK.play(task), [*lines[:-1], "echo hi > hi\n", "done\n"])[1].feedback == (
        "hi should not be there"
    )
    outcome = perform(DESK.play(task), [*lines[:-2], "done\n"])[1]
    assert outcome.rewards == (0.0,) and outcome.feedback.endswith((" is missing", " be there"))
    assert outcome.info["fraction"] == 1 - 1 / len(task.data["acts"])
    spared = next(path for path in task.data["files"] if path in task.data["goal"])
    outcome = perform(DESK.play(task), [*lines[:-1], f"echo x > {spared}", "done"])[1]
    assert outcome.rewards == (0.0,) and outcome.feedback.startswith(f"{spared} holds x, not ")


def test_words_earn_nothing():
    for task in DESK.tasks("dev", 50):
        for claim in (
            "done",
            "I have done all of it. done",
            "echo done",
            "ls\n" + "\n".join(task.data["acts"]),
        ):
            assert score(DESK, task, claim) == 0.0


WORDS = words("ls cat grep mv cp rm echo sum sort head wc | > >> ash box/ ../x /etc/passwd 1e309 -1 red done")
hostile = st.one_of(
    st.text(max_size=300),
    st.lists(
        st.sampled_from(WORDS),
        max_size=12,
    ).map(" ".join),
    st.sampled_from(["\ud800", "\x00" * 100_000, "ls | " * 20_000, "> " * 50, "echo " + "9" * 90_000]),
)


@cache
def twenty() -> list[Task]:
    return list(DESK.tasks("dev", 20))


@settings(max_examples=300, deadline=None)
@given(replies=st.lists(hostile, min_size=1, max_size=6), at=st.integers(0, 19))
def test_nothing_breaks_the_desk(replies, at):
    task = twenty()[at]
    asks, outcome = perform(DESK.play(task), replies)
    assert outcome.rewards in ((0.0,), (1.0,)) and 0.0 <= outcome.info["fraction"] <= 1.0
    assert all(len(ask.text) <= DESK.shown for ask in asks[1:])
    assert len(asks) <= task.data["optimal"] + DESK.slack
    DESK.oracle(task, replies[:-1], replies[-1])


def test_answers_are_bounded_and_half_a_word_is_not_shown():
    disk = Disk({f"name{number}": "x" for number in range(99)}, {})
    answer = run(disk, "ls", shown=60)
    assert len(answer) <= 60 and answer.endswith(" ...")
    assert disk.has_shown("name0") and not disk.has_shown("name")
    disk = Disk({"a": "x " * 150}, {})
    assert run(disk, "cat a a a > b") == "error: too long for a file"


# Reading


def test_documents_are_transcripts_of_the_train_split_and_raw_text_asks_the_same():
    rng = Random(1)
    for _ in range(100):
        assert [text for text, learned in DESK.document(rng) if learned][-1] == "done\n"
    for task in DESK.tasks("train", 50):
        lines = lines_of(task)
        asks, outcome = perform(DESK.complete(task, "worked"), lines)
        assert outcome.rewards == (1.0,) and all(ask.text.endswith("\n$ ") for ask in asks)
    held = {task.problem for task in DESK.tasks("test", 300)}
    read = [
        f"desk {' '.join(text_of(DESK.document(Random(n))).replace('$ ', '').split())}" for n in range(500)
    ]
    assert len(held) == 300 and not held & set(read)
    assert {split_of(transcript) for transcript in read} == {"train"}


def test_only_what_the_player_says_is_learned():
    for task in DESK.tasks("train", 30):
        tokens, mask = render(tokenizer(), DESK.demonstration(task))
        learned = tokenizer().decode([token for token, says in zip(tokens, mask, strict=True) if says])
        assert learned.replace("<|end|>", "") == "".join(lines_of(task))


def test_chance_is_uniform_over_short_lines():
    task = DESK.tasks("dev", 1)[0]
    drawn = {DESK.guess(task, [], Random(seed)) for seed in range(3000)}
    assert len(drawn) == DESK.answer_space(task) > 10
    rng, won = Random(0), 0.0
    for task in DESK.tasks("dev", 100):
        replies: list[str] = []
        for _ in range(task.data["optimal"] + DESK.slack):
            replies.append(DESK.guess(task, replies, rng))
        won += score(DESK, task, *replies)
    assert won <= 5


@pytest.mark.parametrize(
    "setting, value",
    [("kinds", ("dance",)), ("sizes", (0,)), ("sizes", (99,)), ("slack", -1), ("shown", 20)],
)
def test_a_setting_out_of_range_is_named(setting, value):
    with pytest.raises(UserError, match=f"world desk: {setting}="):
        replace(DESK, **{setting: value})
