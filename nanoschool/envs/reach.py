"""reach: what can be made of a few numbers with + - * /, by dynamic programming over their sub-multisets.

A pool is the sorted tuple of the numbers one still has. Every result is a whole number from 1 to 999, which is what
keeps the search small: the results that a pool can be made into are bits of one integer, so a whole set is added to
or subtracted from by one shift. Worst case (a first look at six numbers): some 20 ms; all is remembered.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations

HIGHEST = 999
OPERATIONS = "+-*/"
_RESULTS = ((1 << (HIGHEST + 1)) - 1) & ~1  # bit v stands for the value v; 0 is no result
Pool = tuple[int, ...]


def apply(a: int, operation: str, b: int) -> int | None:
    """The result of a step; None where it is not a whole number from 1 to HIGHEST."""
    quotient = a // b if b and a % b == 0 else 0
    result = {"+": a + b, "-": a - b, "*": a * b, "/": quotient}[operation]
    return result if 1 <= result <= HIGHEST else None


def moves(pool: Pool) -> Iterator[tuple[str, Pool]]:
    """Every step that a pool allows, as it is written, and the pool after it."""
    for i, j in combinations(range(len(pool)), 2):
        rest = (*pool[:i], *pool[i + 1 : j], *pool[j + 1 :])
        for a, b in {(pool[i], pool[j]), (pool[j], pool[i])}:
            for operation in OPERATIONS:
                if (result := apply(a, operation, b)) is not None:
                    yield f"{a}{operation}{b}={result}", tuple(sorted((*rest, result)))


def solve(pool: Pool, target: int) -> list[str] | None:
    """Steps that put the target into the pool, with as few of its numbers as can be; None where there are none.

    [] where the pool holds it already.
    """
    for size in range(1, len(pool) + 1):
        for part in sorted(set(combinations(pool, size))):
            if (steps := _make(part, target)) is not None:
                return steps
    return None


@lru_cache(maxsize=1 << 16)
def alive(pool: Pool, target: int) -> bool:
    """Is the target in the pool, or can it be made?"""
    return solve(pool, target) is not None


@lru_cache(maxsize=1 << 16)
def made_of_all(pool: Pool) -> int:
    """The set, as bits, of the values that use every number of the pool."""
    if len(pool) == 1:
        return 1 << pool[0]
    values = 0
    for left, right in _halves(pool):
        values |= _combined(made_of_all(left), made_of_all(right))
    return values


def _make(pool: Pool, target: int) -> list[str] | None:
    """Steps from all the numbers of the pool to the target; they are looked for from the target down."""
    if len(pool) == 1:
        return [] if pool[0] == target else None
    for left, right in _halves(pool):
        if len(left) > len(right):
            left, right = right, left
        others = made_of_all(right)
        for x in _values(made_of_all(left)):
            for a, operation, b in _last_steps(x, target):
                y = b if a == x else a
                if y <= HIGHEST and others >> y & 1:
                    before = (_make(left, x) or []) + (_make(right, y) or [])
                    return [*before, f"{a}{operation}{b}={target}"]
    return None


def _last_steps(x: int, target: int) -> Iterator[tuple[int, str, int]]:
    """Every step with x in it that results in the target."""
    if x < target:
        yield x, "+", target - x
    if x > target:
        yield x, "-", x - target
    yield x + target, "-", x
    if target % x == 0:
        yield x, "*", target // x
    if x % target == 0:
        yield x, "/", x // target
    yield x * target, "/", x


def _halves(pool: Pool) -> set[tuple[Pool, Pool]]:
    """Every way to part a pool in two that are not empty; the first number is always on the left."""
    rest = range(1, len(pool))
    return {
        (
            tuple(n for at, n in enumerate(pool) if at not in chosen),
            tuple(pool[at] for at in chosen),
        )
        for size in range(1, len(pool))
        for chosen in combinations(rest, size)
    }


def _combined(one: int, other: int) -> int:
    """The results of every step between a value of one set and a value of the other."""
    values = 0
    ones, others = list(_values(one)), list(_values(other))
    for a in ones:
        values |= other << a | other >> a
        for b in others:
            if a % b == 0:
                values |= 1 << a // b
            elif b % a == 0:
                values |= 1 << b // a
            if a * b <= HIGHEST:
                values |= 1 << a * b
    for b in others:
        values |= one >> b
    return values & _RESULTS


def _values(bits: int) -> Iterator[int]:
    """The members of a set, ascending."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
