"""What is known exactly of the games, held against brute force and the literature."""

from collections import Counter
from fractions import Fraction
from functools import cache
from itertools import product
from random import Random

import pytest
from seats import board, hand, nim, play, says

from nanoschool.envs import kuhn_equilibrium as theory
from nanoschool.envs.boardgame import worth
from nanoschool.envs.connect3 import Connect3
from nanoschool.envs.kuhn import Kuhn
from nanoschool.envs.nim import Nim, nim_sum
from nanoschool.envs.tictactoe import TicTacToe


def test_nims_oracle_is_the_xor_rule_and_agrees_with_brute_force():
    @cache
    def wins(piles: tuple[int, ...]) -> bool:
        """By the rules alone: somebody wins who can leave a lost position."""
        fewer = ((*piles[:i], left, *piles[i + 1 :]) for i, pile in enumerate(piles) for left in range(pile))
        return any(not wins(after) for after in fewer)

    for piles in product(range(1, 8), repeat=3):
        assert wins(piles) == (nim_sum(piles) != 0)
        oracle = Nim().oracle(nim(*piles), [])
        assert oracle.value == (1.0 if wins(piles) else -1.0)
        taken = [tuple(map(int, move.split("-"))) for move in oracle.best_replies]
        for pile, stones in taken:
            left = list(piles)
            left[left.index(pile)] -= stones
            assert wins(tuple(left)) != wins(piles)


def reachable(game) -> set[str]:
    seen = {"." * game.squares}
    todo = list(seen)
    while todo:
        state = todo.pop()
        if game.result(state) is None:
            new = {game.after(state, move) for move in game.moves(state)} - seen
            seen |= new
            todo += new
    return seen


def test_tictactoe_has_5478_states_and_is_a_draw():
    states = reachable(TicTacToe())
    assert len(states) == 5478 and len({TicTacToe().canonical(state) for state in states}) == 765
    assert sum(TicTacToe().result(state) is not None for state in states) == 958
    oracle = TicTacToe().oracle(board("." * 9), [])
    assert oracle.value == 0.0 and len(oracle.best_replies) == 9
    assert TicTacToe().oracle(board("X........"), []).best_replies == ("5",), (
        "a corner is answered in the middle"
    )


def test_connect3_is_won_by_the_first_player():
    """Solved again from its rules on a grid, without mirrors, memory of lines or cuts."""
    lines = [
        [(c + i * dc, r + i * dr) for i in range(3)]
        for c, r, (dc, dr) in product(range(4), range(4), [(0, 1), (1, 0), (1, 1), (1, -1)])
        if c + 2 * dc < 4 and -1 < r + 2 * dr < 4
    ]
    assert len(lines) == 24

    @cache
    def solve(state: str) -> float:
        mine, other = ("X", "O") if state.count("X") == state.count("O") else ("O", "X")
        if any(all(state[4 * c + r] == other for c, r in line) for line in lines):
            return -1.0
        drops = [
            4 * c + state[4 * c : 4 * c + 4].find(".") for c in range(4) if "." in state[4 * c : 4 * c + 4]
        ]
        return max((0.0 - solve(state[:at] + mine + state[at + 1 :]) for at in drops), default=0.0)

    states = reachable(Connect3())
    assert len(states) == 41_750 and solve("." * 16) == 1.0
    assert solve.cache_info().currsize == 41_750
    assert all(worth(Connect3(), state) == solve(state) for state in states)


def test_kuhn_is_worth_minus_one_eighteenth():
    for alpha in (Fraction(), Fraction(1, 6), Fraction(1, 3)):
        strategy = theory.equilibrium(alpha)
        assert theory.value(strategy, strategy) == Fraction(-1, 18)
        assert theory.exploitability(strategy) == 0
    assert theory.best_response(theory.EQUILIBRIUM, 0) == Fraction(-1, 18)
    assert theory.best_response(theory.EQUILIBRIUM, 1) == Fraction(1, 18)
    values = [
        Kuhn().oracle(hand(*cards), []).value for cards in product((3, 8, 12), repeat=2) if len({*cards}) == 2
    ]
    assert sum(values) / 6 * 2 == pytest.approx(-1 / 18)


def test_exploitability_is_what_the_best_of_all_plans_wins():
    """Kuhn's best responses by trying all 64 plans of a seat, on a game tree written out by hand."""

    def expected(first: theory.Strategy, second: theory.Strategy) -> Fraction:
        total = Fraction()
        for a, b in ((a, b) for a in range(3) for b in range(3) if a != b):
            sign = 1 if a > b else -1
            bet, call = first[a, ()], first[a, ("check", "bet")]
            answer, raised = second[b, ("bet",)], second[b, ("check",)]
            checked = (1 - raised) * sign + raised * (call * 2 * sign + (1 - call) * -1)
            total += bet * (answer * 2 * sign + (1 - answer)) + (1 - bet) * checked
        return total / 6

    def plans(*turns: theory.History) -> list[theory.Strategy]:
        places = [(rank, turn) for rank in theory.RANKS for turn in turns]
        return [dict(zip(places, plan, strict=True)) for plan in product((0, 1), repeat=len(places))]

    firsts, seconds = plans((), ("check", "bet")), plans(("check",), ("bet",))
    assert len(firsts) == len(seconds) == 64
    rng = Random(0)
    for _ in range(6):
        strategy = {
            (rank, turn): Fraction(rng.randint(0, 10), 10) for rank in theory.RANKS for turn in theory.TURNS
        }
        assert theory.value(strategy, strategy) == expected(strategy, strategy)
        first = max(expected(plan, strategy) for plan in firsts)
        second = max(-expected(strategy, plan) for plan in seconds)
        assert (theory.best_response(strategy, 0), theory.best_response(strategy, 1)) == (first, second)
        assert theory.exploitability(strategy) == (first + second) / 2 > 0


def test_kuhns_oracle_knows_no_more_than_the_seat_and_mixes_as_the_equilibrium():
    game = Kuhn()
    for replies in ([], ["check"], ["bet"], ["check", "bet"]):
        mine = len(replies) % 2
        seen = [game.oracle(hand(*((8, other) if mine == 0 else (other, 8))), replies) for other in (3, 12)]
        assert seen[0] == seen[1] and 0 <= seen[0].entropy_bits <= 1
    assert game.oracle(hand(12, 3), ["bet"]).best_replies == ("fold",)
    assert (
        game.oracle(hand(12, 3), ["bet"]).value == -0.5
        and game.oracle(hand(12, 3), ["bet"], "ca").value == -1.0
    )
    bets = Counter(game.perfect(game.start(hand(3, 8)), Random(seed)) for seed in range(6000))
    assert bets["bet"] / 6000 == pytest.approx(1 / 6, abs=0.02)


def test_a_strategy_is_read_off_games():
    game, rng = Kuhn(), Random(2)
    games = []
    for task in game.tasks("train", 3000):
        seat = game.opponent(rng)
        games.append((task, play(game.play(task), seat, seat)[1]))
    assert theory.exploitability(game.strategy(games)) < 0.03
    timid = [(task, play(game.play(task), says("check", "fold"), says("check"))[1]) for task, _ in games[:50]]
    assert game.strategy(timid)[2, ()] == 0 and game.strategy(timid)[2, ("bet",)] == Fraction(1, 2)
    assert theory.exploitability(game.strategy(timid)) > 0.2
