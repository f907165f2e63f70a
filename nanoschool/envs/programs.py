"""programs: small rewrite programs for strings of letters: the family, how each is written, what each does.

A program is a few operations in a row, and a set of letters that it has no rule for:

    a to b     every a becomes b            drop a     every a goes
    reverse    last letter first            shift 1    the first letter goes to the end (shift 2: the first two)
    if a OP    OP where the string holds an a, else nothing happens

A string that holds a letter without a rule has the output `no`; one of which nothing is left has `-`.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from hashlib import blake2b
from itertools import combinations, product
from math import log2
from random import Random

GAP, EMPTY = "no", "-"
SHIFTS = (1, 2)
PROBES = 4  # programs that agree on all strings up to this length, and on a long one, count as the same
Operation = tuple[str, ...]  # ("to", a, b), ("drop", a), ("reverse",), ("shift", n), ("if", a, *operation)


@cache
def operations(letters: str) -> tuple[Operation, ...]:
    """Every operation over these letters, those with a condition last."""
    plain: list[Operation] = [("to", a, b) for a, b in product(letters, letters) if a != b]
    plain += [("drop", a) for a in letters]
    plain += [("reverse",), *(("shift", str(n)) for n in SHIFTS)]
    return (*plain, *(("if", a, *operation) for a in letters for operation in plain))


def draw_program(rng: Random, letters: str, lengths: Sequence[int]) -> list[list[str]]:
    """A length drawn uniformly, then each operation uniformly: the distribution that `entropy` is over."""
    return [list(rng.choice(operations(letters))) for _ in range(rng.choice(lengths))]


def write(program: Sequence[Sequence[str]], gaps: Sequence[str] = ()) -> list[str]:
    """The operations in words, and then what has no rule: `a to b`, `if c drop a`, `no d`."""
    return [*map(_written, program), *(f"{GAP} {letter}" for letter in gaps)]


def output(program: Sequence[Sequence[str]], gaps: Sequence[str], string: str) -> list[str]:
    """What becomes of a string: its symbols, never none."""
    if any(letter in string for letter in gaps):
        return [GAP]
    for operation in program:
        string = apply(operation, string)
    return list(string) or [EMPTY]


def apply(operation: Sequence[str], string: str) -> str:
    what, *rest = operation
    if what == "to":
        return string.replace(rest[0], rest[1])
    if what == "drop":
        return string.replace(rest[0], "")
    if what == "reverse":
        return string[::-1]
    if what == "shift":
        at = int(rest[0])
        return string[at:] + string[:at]
    return apply(rest[1:], string) if rest[0] in string else string  # if


def behaviour(program: Sequence[Sequence[str]], gaps: Sequence[str], letters: str) -> str:
    """A digest of what a program does: programs that do the same share it, however they are written."""
    return _behaviour(tuple(map(tuple, program)), tuple(gaps), letters)


@cache
def _probes(letters: str) -> tuple[str, ...]:
    short = ("".join(s) for length in range(1, PROBES + 1) for s in product(letters[:4], repeat=length))
    return (*short, letters + letters[::-1] + letters)


@lru_cache(maxsize=1 << 16)
def _behaviour(program: tuple[Operation, ...], gaps: tuple[str, ...], letters: str) -> str:
    outputs = (" ".join(output(program, gaps, string)) for string in _probes(letters))
    return blake2b(",".join(outputs).encode(), digest_size=8).hexdigest()


@lru_cache(maxsize=1 << 12)
def entropy(letters: str, lengths: tuple[int, ...], gaps: int, strings: tuple[str, ...]) -> float:
    """Bits of the outputs of these strings together, for one who knows the family and not the program.

    Exact: the distribution of what the strings have become is carried from operation to operation, equal states
    merged. Cost: the states before the last operation times the operations (95 of 4 letters), so about 30 ms for
    programs of two and seconds for three.
    """
    states = {strings: 1.0}
    after: dict[tuple[str, ...], float] = {}
    for length in range(1, max(lengths) + 1):
        grown: dict[tuple[str, ...], float] = {}
        options = operations(letters)
        for state, weight in states.items():
            for operation in options:
                become = tuple([apply(operation, string) for string in state])
                grown[become] = grown.get(become, 0.0) + weight / len(options)
        states = grown
        share = lengths.count(length) / len(lengths)
        for state, weight in states.items() if share else ():
            after[state] = after.get(state, 0.0) + share * weight
    chances: dict[tuple[str, ...], float] = {}
    for hidden, weight in _hidden(letters, gaps, strings).items():
        for state, share in after.items():
            seen = tuple(GAP if gone else out for gone, out in zip(hidden, state, strict=True))
            chances[seen] = chances.get(seen, 0.0) + weight * share
    return -sum(p * log2(p) for p in chances.values())


def draw_gaps(rng: Random, letters: str, gaps: int) -> list[str]:
    """Up to `gaps` letters without a rule: how many uniformly, then which."""
    return sorted(rng.sample(letters, rng.randint(0, gaps)))


def _hidden(letters: str, gaps: int, strings: tuple[str, ...]) -> dict[tuple[bool, ...], float]:
    """How likely each pattern is of strings that hold a letter without a rule."""
    patterns: dict[tuple[bool, ...], float] = {}
    for count in range(gaps + 1):
        chosen = list(combinations(letters, count))
        for missing in chosen:
            pattern = tuple(any(letter in string for letter in missing) for string in strings)
            patterns[pattern] = patterns.get(pattern, 0.0) + 1 / (gaps + 1) / len(chosen)
    return patterns


def _written(operation: Sequence[str]) -> str:
    what, *rest = operation
    if what == "to":
        return f"{rest[0]} to {rest[1]}"
    if what == "if":
        return f"if {rest[0]} {_written(rest[1:])}"
    return " ".join(operation)
