"""kuhn_equilibrium: Kuhn's poker as numbers: what play is worth, best responses, exploitability, the equilibrium.

Kuhn (1950), "A simplified two-person poker". Three cards of rank 0, 1, 2, one a player; each puts in an ante. The first
checks or bets one more; a bet is answered by a fold or a call; after a check the second may bet in turn. All values are
antes won, exact where the strategies are fractions. The game is worth -1/18 to the first player.
"""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import cache
from math import log2

History = tuple[str, ...]
Chance = Fraction | float
Strategy = Mapping[tuple[int, History], Chance]  # by own rank and history: the chance of the bolder move

RANKS = (0, 1, 2)
TURNS: tuple[History, ...] = ((), ("check",), ("bet",), ("check", "bet"))  # where somebody is to move
DEAL = Fraction(1, 6)  # each ordered pair of ranks


def options(history: History) -> tuple[str, str]:
    """The cautious move and the bolder one."""
    return ("fold", "call") if history[-1:] == ("bet",) else ("check", "bet")


def payoff(history: History, ranks: tuple[int, int]) -> int | None:
    """The antes that the first player wins; None while the hand goes on."""
    if history in TURNS:
        return None
    if history[-1] == "fold":
        return 1 if len(history) % 2 == 0 else -1
    stake = 2 if history[-1] == "call" else 1
    return stake if ranks[0] > ranks[1] else -stake


def equilibrium(alpha: Fraction) -> Strategy:
    """Kuhn's solution: the first player bluffs with the lowest card with chance `alpha`, any from 0 to 1/3."""
    third = Fraction(1, 3)
    bold = {
        (): (alpha, 0, 3 * alpha),
        ("check", "bet"): (0, alpha + third, 1),
        ("check",): (third, 0, 1),
        ("bet",): (0, third, 1),
    }
    return {(rank, history): Fraction(bold[history][rank]) for history in bold for rank in RANKS}


# Strictly between 0 and 1/3 every move that a player may see can come from perfect play, so beliefs are defined.
EQUILIBRIUM = equilibrium(Fraction(1, 6))


def chance(strategy: Strategy, rank: int, history: History, move: str) -> Chance:
    bold = strategy[rank, history]
    return bold if move == options(history)[1] else 1 - bold


def worth(
    history: History,
    seat: int,
    rank: int,
    others: Mapping[int, Chance],
    theirs: Strategy,
    mine: Strategy | None = None,
) -> Chance:
    """What `seat`, holding `rank`, wins from here, summed over the other's ranks by their weights in `others`.

    The other plays `theirs`; we play `mine`, or where that is None the best response.
    """
    if history not in TURNS:
        return sum(
            (weight * _gain(history, seat, rank, other) for other, weight in others.items()), Fraction()
        )
    moves = options(history)
    if len(history) % 2 == seat:
        cautious, bold = (worth((*history, m), seat, rank, others, theirs, mine) for m in moves)
        if mine is None:
            return max(cautious, bold)
        return cautious + mine[rank, history] * (bold - cautious)
    total: Chance = Fraction()
    for move in moves:
        seen = {other: weight * chance(theirs, other, history, move) for other, weight in others.items()}
        total += worth((*history, move), seat, rank, seen, theirs, mine)
    return total


def value(first: Strategy, second: Strategy) -> Chance:
    """What the first player wins a hand."""
    return sum((worth((), 0, rank, _dealt(rank), second, first) for rank in RANKS), Fraction())


def best_response(theirs: Strategy, seat: int) -> Chance:
    """What one wins a hand who sits in `seat` and knows how the other plays."""
    return sum((worth((), seat, rank, _dealt(rank), theirs) for rank in RANKS), Fraction())


def exploitability(strategy: Strategy) -> Chance:
    """What a best response wins a hand against `strategy`, the seats taken in turn; 0 at an equilibrium only."""
    return (best_response(strategy, 0) + best_response(strategy, 1)) / 2


def observed(moves: Iterable[tuple[int, History, str]]) -> Strategy:
    """The strategy that (rank, history, move) were seen of: shares, and one half where nothing was seen."""
    counts = {(rank, history): [0, 0] for rank in RANKS for history in TURNS}
    for rank, history, move in moves:
        counts[rank, history][options(history).index(move)] += 1
    return {
        at: Fraction(bold, both) if (both := cautious + bold) else Fraction(1, 2)
        for at, (cautious, bold) in counts.items()
    }


@cache
def beliefs(rank: int, history: History) -> dict[int, Fraction]:
    """The chance of each rank of the other's, to one who holds `rank`, when both play the equilibrium."""
    weights = _dealt(rank)
    for ply in range(len(history) - 1, -1, -2):  # the other's moves
        weights = {
            r: w * Fraction(chance(EQUILIBRIUM, r, history[:ply], history[ply])) for r, w in weights.items()
        }
    total = sum(weights.values())
    return {other: weight / total for other, weight in weights.items()}


@cache
def move_values(rank: int, history: History) -> dict[str, Chance]:
    """What each move is expected to win one who holds `rank`, against the equilibrium."""
    seat, others = len(history) % 2, beliefs(rank, history)
    return {m: worth((*history, m), seat, rank, others, EQUILIBRIUM) for m in options(history)}


@cache
def entropy_bits(rank: int, history: History) -> float:
    """Of the other's card."""
    return -sum(float(p) * log2(p) for p in beliefs(rank, history).values() if p) + 0.0


def _dealt(rank: int) -> dict[int, Fraction]:
    return {other: DEAL for other in RANKS if other != rank}


def _gain(history: History, seat: int, rank: int, other: int) -> int:
    won = payoff(history, (rank, other) if seat == 0 else (other, rank))
    assert won is not None
    return won if seat == 0 else -won
