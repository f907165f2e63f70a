"""Games of two seats: the rules as scripted players find them, what every game owes, play by models."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seats import GAMES, board, hand, nim, play, says
from tiny import tiny

from nanoschool.core.chat import render
from nanoschool.core.optim import adamw
from nanoschool.envs.connect3 import Connect3
from nanoschool.envs.kuhn import Kuhn
from nanoschool.envs.nim import Nim, nim_sum
from nanoschool.envs.perfectplay import PerfectPlay
from nanoschool.envs.tictactoe import TicTacToe
from nanoschool.evals.measure import answers
from nanoschool.methods.material import trained
from nanoschool.rollout import rollout
from nanoschool.types import HasDemonstrations, HasDocuments, HasGuesses, HasOracle, Outcome, Reply, UserError


@pytest.fixture(params=GAMES)
def game(request) -> PerfectPlay:
    return GAMES[request.param]


# The rules


def test_nim_as_it_is_played():
    asks, _, outcome = play(Nim().play(nim(3, 5, 2)), says("5-4", "2-2"), says("3-3", "1-1"))
    assert [(ask.seat, ask.text) for ask in asks] == [
        (0, "nim 3 5 2"),
        (1, "nim 3 1 2"),
        (0, "nim 1 2"),
        (1, "nim 1"),
    ]
    assert outcome == Outcome(
        (-1.0, 1.0), "the second player has won", {"wellformed": True, "plies": 4, "winner": 1}
    )


def test_tictactoe_as_it_is_played():
    asks, _, outcome = play(TicTacToe().play(board("XO.......")), says("4", "7"), says("5"))
    assert (
        asks[0].text == "tictactoe X O 3 4 5 6 7 8 9, X" and asks[2].text == "tictactoe X O 3 X O 6 7 8 9, X"
    )
    assert outcome.rewards == (1.0, -1.0) and outcome.feedback == "the first player has won"
    _, _, outcome = play(TicTacToe().play(board("XOXXOO.X.")), says("7"), says("9"))
    assert outcome.rewards == (0.0, 0.0) and outcome.feedback == "the game is drawn"


def test_connect3_as_it_is_played():
    state = "XO.." + "X..." + "...." + "O..."
    asks, _, outcome = play(Connect3().play(board(state)), says("3"), says())
    assert asks[0].text == "connect3 X O / X / - / O, X" and outcome.rewards == (1.0, -1.0)
    assert Connect3().after(state, "1") == "XOX." + state[4:], "a stone falls on those below it"


def test_kuhn_shows_each_seat_its_own_card():
    asks, _, outcome = play(Kuhn().play(hand(8, 3)), says("check", "call"), says("bet"))
    assert [ask.text for ask in asks] == [
        "kuhn 3 8 12, you hold 8",
        "kuhn 3 8 12, you hold 3: check",
        "kuhn 3 8 12, you hold 8: check bet",
    ]
    assert outcome.rewards == (1.0, -1.0)
    for other in (3, 12):
        assert next(Kuhn().play(hand(8, other))) == asks[0]


@pytest.mark.parametrize(
    "replies, won",
    [("check check", -1), ("bet fold", 1), ("bet call", -2), ("check bet fold", -1), ("check bet call", -2)],
)
def test_kuhn_pays_what_was_put_in(replies, won):
    _, _, outcome = play(Kuhn().play(hand(3, 8)), says(*replies.split()[::2]), says(*replies.split()[1::2]))
    assert outcome.rewards == (won / 2, -won / 2)


@pytest.mark.parametrize(
    "name, task, reply, why",
    [
        ("nim", nim(3, 5), "4-1", "there is no pile of 4"),
        ("nim", nim(3, 5), "3-4", "from a pile of 3 nobody can take 4"),
        ("nim", nim(3, 5), "3-0", "write pile-taken, such as 5-4"),
        ("nim", nim(3, 5), " 3-1", "write pile-taken, such as 5-4"),
        ("tictactoe", board("XO......."), "2", "square 2 is taken"),
        ("tictactoe", board("XO......."), "٣", "write the number of a free square"),
        ("connect3", board("XOXO" + "." * 12), "1", "column 1 is full"),
        ("connect3", board("XOXO" + "." * 12), "5", "write a column from 1 to 4"),
        ("kuhn", hand(3, 8), "call", "write check or bet"),
    ],
)
def test_an_illegal_move_loses_and_is_told_why(name, task, reply, why):
    game = GAMES[name]
    _, _, outcome = play(game.play(task), says(reply), says())
    assert outcome.rewards == (-1.0, 1.0) and outcome.info["wellformed"] is False
    assert outcome.feedback == f"the first player has lost by an illegal move: {why}"
    legal = game.moves(game.start(task))[0]
    if game.result(game.after(game.start(task), legal)) is None:
        _, _, outcome = play(game.play(task), says(legal), says("no"))
        assert outcome.rewards == (1.0, -1.0) and outcome.feedback.startswith("the second player has lost")


# What all of them owe


def test_they_offer_what_a_world_can_offer(game):
    for protocol in (HasOracle, HasGuesses, HasDemonstrations, HasDocuments):
        assert isinstance(game, protocol)


def test_perfect_play_gets_what_the_oracle_says(game):
    """Without chance in it, to the point: a result is the start's value less what each seat gave away."""
    rng = Random(0)
    perfect, clumsy = game.opponent(rng), game.opponent(rng, blunder=0.6)
    for task in game.tasks("train", 150):
        value = game.oracle(task, []).value
        _, replies, outcome = play(game.play(task), perfect, perfect)
        assert outcome.rewards is not None and sum(outcome.rewards) == 0
        assert game.regret(task, replies) == (0.0, 0.0)
        last = (len(replies) - 1) % 2
        assert game.oracle(task, replies).value == outcome.rewards[last]
        if game.name == "kuhn":
            continue
        assert outcome.rewards[0] == value
        _, replies, outcome = play(game.play(task), clumsy, clumsy)
        first, second = game.regret(task, replies)
        assert outcome.rewards is not None and outcome.rewards[0] == value - first + second


@pytest.mark.parametrize("name", ["nim", "tictactoe", "connect3"])
def test_chance_loses_to_perfect_play(name):
    game, rng, won = GAMES[name], Random(3), {0: 0.0, 1: 0.0}
    tasks = game.tasks("train", 300)
    for seat in won:
        players = [game.opponent(rng), game.opponent(rng)]
        players[seat] = game.opponent(rng, blunder=1.0)
        for task in tasks:
            rewards = play(game.play(task), *players)[2].rewards
            assert rewards is not None
            won[seat] += rewards[seat] / len(tasks)
    assert won[0] + won[1] < -0.5


def test_a_guess_is_any_legal_move(game):
    task = game.tasks("dev", 5)[4]
    guesses = Counter(game.guess(task, [], Random(seed)) for seed in range(2000))
    assert set(guesses) == set(game.moves(game.start(task))) and len(guesses) == game.answer_space(task)
    assert min(guesses.values()) > 0.6 * 2000 / len(guesses)
    move = next(m for m in guesses if game.result(game.after(game.start(task), m)) is None)
    assert game.guess(task, [move], Random(0)) in game.moves(game.after(game.start(task), move))


def test_partial_replies_have_values(game):
    for task in game.tasks("dev", 30):
        whole = game.oracle(task, [])
        assert whole.first_error is None and whole.best_replies
        for move in game.moves(game.start(task)):
            for end in range(1, len(move) + 1):
                part = game.oracle(task, [], move[:end])
                assert part.value <= whole.value and all(
                    best.startswith(move[:end]) for best in part.best_replies
                )
                assert (part.first_error is None) == (part.value == whole.value)
            assert game.oracle(task, [], move).value == game.values(game.start(task))[move]
        nonsense = game.oracle(task, [], "x")
        assert nonsense.value == -1.0 and nonsense.best_replies == () and nonsense.first_error == 0
        assert game.oracle(task, ["x"]).value == -1.0 and game.oracle(task, ["x", "y"]).value == -1.0


@pytest.mark.parametrize("name", GAMES)
@settings(max_examples=150, deadline=None)
@given(
    reply=st.one_of(
        st.text(max_size=60), st.sampled_from(["5-4", "1", "9", "check", "call", "9" * 100_000, "\ud800"])
    ),
    at=st.integers(0, 19),
)
def test_any_reply_is_an_outcome(name, reply, at):
    game = GAMES[name]
    task = game.tasks("dev", 20)[at]
    for episode in (game.play(task), game.complete(task, "line")):
        outcome = play(episode, lambda ask: Reply(reply), lambda ask: Reply(reply))[2]
        assert (
            outcome.rewards is not None and sum(outcome.rewards) == 0 and max(map(abs, outcome.rewards)) <= 1
        )
        assert len(outcome.feedback) < 120
    assert game.regret(task, ["no", "no"])[1] == 0.0
    oracle = game.oracle(task, [reply, reply], reply)
    assert -1 <= oracle.value <= 1 and game.regret(task, [reply])[0] >= 0


# Played by models


def test_a_model_plays_itself_and_each_attempt_sums_to_nothing(game):
    tasks = game.tasks("train", 6)
    rows = rollout(tiny(context=192), game, tasks, samples=3, max_tokens=12)
    assert [row.group for row in rows if row.seat == 0] == [
        0,
        0,
        0,
        1,
        1,
        1,
        2,
        2,
        2,
        3,
        3,
        3,
        4,
        4,
        4,
        5,
        5,
        5,
    ]
    for row in rows:
        assert row.rewards is not None and abs(row.rewards) <= 1 and len(row.mask) == len(row.tokens)
        assert row.rewards == -1 or row.info["wellformed"] or row.info["winner"] == row.seat


@pytest.mark.parametrize("seat", [0, 1])
def test_a_model_plays_either_seat_against_a_scripted_one(game, seat):
    policy, tasks = tiny(context=192), game.tasks("dev", 8)
    rows = rollout(policy, game, tasks, max_tokens=12, opponents={1 - seat: game.opponent(Random(0))})
    assert rows and {row.seat for row in rows} == {seat}
    for row in rows:
        assert row.task is not None and row.info["winner"] == 1 - seat and row.rewards < 0
        start = game.start(row.task)
        said = policy.tokenizer.decode(row.tokens[: row.mask.index(True)])
        states = [start] if seat == 0 else [game.after(start, move) for move in game.moves(start)]
        assert any(game.show(state) in said for state in states)
        if game.name == "kuhn":
            assert f"you hold {start.cards[seat]}:" in f"{said}:"
            assert f"you hold {start.cards[1 - seat]}" not in said.replace(
                f"you hold {start.cards[seat]}", ""
            )


def test_a_trained_model_plays_whole_games_from_both_seats_and_from_the_middle():
    """Three piles of one stone: the only moves, learned by imitation, take a game through three turns."""
    game, policy = Nim(), tiny(context=192)
    policy.optimizer = adamw(policy.model, 1e-2, (0.9, 0.95))
    shown = [
        trained(*render(policy.tokenizer, game.demonstration(task)), 1.0)
        for task in (nim(1, 1, 1), nim(1, 1))
    ]
    for _ in range(30):
        policy.fit(shown)
    first, second = rollout(policy, game, [nim(1, 1, 1)], temperature=0.0, max_tokens=12)
    assert (first.replies, second.replies) == (["1-1", "1-1"], ["1-1"])
    assert (first.rewards, second.rewards) == (1.0, -1.0) and first.info["plies"] == 3
    (against,) = rollout(
        policy, game, [nim(1, 1, 1)], temperature=0.0, max_tokens=12, opponents={1: game.opponent(Random(0))}
    )
    assert against.tokens == first.tokens and against.rewards == 1.0
    forked = rollout(policy, game, [nim(1, 1, 1)], temperature=0.0, max_tokens=12, prefix=("1-1", "1-1"))
    assert [row.seat for row in forked] == [0] and forked[0].tokens == first.tokens
    assert forked[0].mask.index(True) > first.mask.index(True)


@pytest.mark.parametrize(
    "name, setting, value",
    [
        ("nim", "piles", ()),
        ("nim", "piles", (9,)),
        ("nim", "highest", 0),
        ("tictactoe", "plies", (9,)),
        ("connect3", "plies", ()),
        ("kuhn", "highest", 2),
    ],
)
def test_a_setting_out_of_range_is_named(name, setting, value):
    with pytest.raises(UserError, match=f"world {name}: {setting}="):
        replace(GAMES[name], **{setting: value})


def test_settings_reach_what_was_never_seen():
    seen = {task.problem for task in Nim().tasks("train", 300)}
    larger = Nim(piles=(4,), highest=15).tasks("test", 50)
    assert max(max(task.data["piles"]) for task in larger) > 9 and not seen & {
        task.problem for task in larger
    }
    assert all(
        Nim().oracle(task, []).value == (1.0 if nim_sum(Nim().start(task)) else -1.0) for task in larger
    )
    classic = {task.problem for task in Kuhn(highest=3).tasks("train", 6)}
    assert len(classic) == 6 and {problem.partition(":")[0] for problem in classic} == {"kuhn 1 2 3"}


@pytest.mark.parametrize("seat", [0, 1])
def test_a_model_that_has_only_read_is_asked_in_lines(game, seat):
    policy, tasks = tiny(context=192), game.tasks("test", 8)
    other = game.opponent(Random(0))
    rows = rollout(
        policy, game, tasks, opponents={1 - seat: other}, play=lambda task: game.complete(task, "line")
    )
    assert rows and {row.seat for row in rows} == {seat}
    for row in rows:
        prompt = policy.tokenizer.decode(row.tokens[: row.mask.index(True)])
        state = game.read(prompt.strip(":"))
        assert prompt == f"{game.show(state)}:" and row.rewards is not None and row.rewards < 0


@pytest.mark.parametrize("way", ["chat", "line"])
def test_measured_and_practised_games_are_played_against_the_worlds_own_opponent(game, way):
    policy, tasks = tiny(context=192), game.tasks("dev", 6)
    rows = answers(policy, game, tasks, way, samples=2, temperature=1.0)
    assert [(row.task, row.seat) for row in rows] == [(task, 0) for task in tasks for _ in range(2)]
    again = answers(policy, game, tasks[2:], way, samples=2, temperature=1.0)
    assert [row.replies for row in again] == [row.replies for row in rows[4:]]
