"""Games as they are read and imitated: within their split, perfect, and one line a seat."""

from random import Random

import pytest
from scripted import text_of
from seats import GAMES, play

from nanoschool.envs.common import split_of
from nanoschool.envs.perfectplay import PerfectPlay
from nanoschool.types import Ask, Reply


@pytest.fixture(params=GAMES)
def game(request) -> PerfectPlay:
    return GAMES[request.param]


def canonical(shown: str) -> str:
    """The problem of a position as it stands in text, mirrored by other means than the worlds use."""
    name, _, rest = shown.partition(" ")
    if name == "nim":
        return " ".join(["nim", *sorted(rest.split(), key=int)])
    if name == "kuhn":
        return f"kuhn {rest.partition(',')[0]}"
    if name == "tictactoe":
        marks = [mark if mark in "XO" else "." for mark in rest.partition(",")[0].split()]
        rows, same = [marks[0:3], marks[3:6], marks[6:9]], []
        for _ in range(4):
            rows = [list(row) for row in zip(*rows[::-1], strict=True)]
            same += ["".join(map("".join, rows)), "".join("".join(row[::-1]) for row in rows)]
        return f"tictactoe {min(same)}"
    columns = [
        column.replace(" ", "").replace("-", "").ljust(4, ".") for column in rest.partition(",")[0].split("/")
    ]
    return f"connect3 {min(''.join(columns), ''.join(columns[::-1]))}"


def test_nothing_read_or_imitated_asks_about_another_split(game):
    rng, asked = Random(5), 0
    for _ in range(1500):
        text = text_of(game.document(rng)).rpartition(". ")[0]
        for turn in text.split("; "):
            shown = turn.rpartition(": ")[0]
            assert split_of(canonical(shown)) == "train", text
            asked += 1
    assert asked > 1600
    for task in game.tasks("train", 150):
        for message in game.demonstration(task)[::2]:
            assert split_of(canonical(message.content)) == "train"
    problems = {split: {task.problem for task in game.tasks(split, 40)} for split in ("train", "dev", "test")}
    assert not problems["test"] & (problems["train"] | problems["dev"])


def test_documents_and_demonstrations_are_perfect_games(game):
    rng = Random(6)
    for _ in range(200):
        text = text_of(game.document(rng))
        body, _, end = text.rpartition(". ")
        assert end in ("won\n", "lost\n", "drawn\n") and len(text) < 400
        for turn in body.split("; "):
            shown, _, move = turn.rpartition(": ")
            state = game.read(shown)
            assert game.show(state) == shown
            values = game.values(state)
            assert values[move] == max(values.values())
    for task in game.tasks("test", 30):
        told = game.demonstration(task)
        assert told == game.demonstration(task) and {m.role for m in told[::2]} == {"user"}
        assert told[0].content == next(game.play(task)).text or game.name == "kuhn"
        assert all(
            a.role == "assistant" and a.content in game.moves(game.read(u.content))
            for u, a in zip(told[::2], told[1::2], strict=True)
        )


def test_a_line_of_raw_text_is_what_a_seat_hears_and_says(game):
    """Asks and replies of `complete`, put end to end, spell the beginning of a document."""
    perfect = game.opponent(Random(7))
    for task in game.tasks("train", 60):
        heard = {0: "", 1: ""}

        def seat(ask: Ask, perfect=perfect, heard=heard) -> Reply:
            assert ask.role == "text" and "\n" in ask.stop
            reply = perfect(ask)
            heard[ask.seat] += ask.text + reply.text
            return reply

        asks, replies, outcome = play(game.complete(task, "line"), seat, seat)
        assert outcome.info["wellformed"] and game.oracle(task, [r.strip(" ;") for r in replies]).value in {
            *outcome.rewards
        }
        turns = [f"{ask.text.strip()}{reply.rstrip(';')}" for ask, reply in zip(asks, replies, strict=True)]
        assert heard[0] == "; ".join(turns[::2]) + ";"
        assert heard[1] == "; ".join(turns[1::2]) + ";" * (len(turns) > 1)


def test_both_sides_of_a_hand_of_poker_are_shown():
    game = GAMES["kuhn"]
    shown = [game.demonstration(task) for task in game.tasks("train", 200)]
    second = sum(game.read(told[0].content).history != () for told in shown)
    assert 60 < second < 140
