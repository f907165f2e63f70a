"""gold: the taste that envs/taste.py asks for, as a formula, and the best string there is, exactly.

The gold of a string of words, about some topics and to be of some length, is the sum of

    +1.5 a topic, +1 a liked word (which these are is not told), halved with every further use of the same word
    -1   a word that stands beside itself          -1.5  each use of a word after its second
    -1   a word too many or too few                -1    each word that is not in WORDS
    -3   a topic that is not named

and never below LOWEST. Without the last a string of liked words, whatever was asked, earned twice what chance does,
and with a penalty of 2 still more than chance.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from nanoschool.envs.common import words

LIKED = words("warm bright sweet kind calm free")
NOUNS = words(
    "rain sea tree road stone bird wind field night fire snow river door bread ship moon"
    " hill leaf lamp horse song glass town cloud"
)
PLAIN = words("the a and of")
WORDS = (*LIKED, *NOUNS, *PLAIN)
TOPIC, GOOD, HALVED = 1.5, 1.0, 0.5
BESIDE, OVERUSE, OFTEN, LENGTH, UNKNOWN, MISSING = 1.0, 1.5, 2, 1.0, 1.0, 3.0
LASTING = 64  # uses after which another is worth nothing but its overuse
LOWEST = -20.0


def gold(topics: Sequence[str], length: int, said: Sequence[str]) -> float:
    """What the taste thinks of the words `said`, from LOWEST up."""
    total = -LENGTH * abs(len(said) - length) - BESIDE * sum(a == b for a, b in pairwise(said))
    total -= MISSING * len(topics)  # its first use makes up for it
    for word, count in Counter(said).items():
        if word in WORDS:
            total += sum(_gain(topics, word, use) for use in range(min(count, LASTING)))
            total -= OVERUSE * max(0, count - LASTING)
        else:
            total -= UNKNOWN * count
    return max(LOWEST, total)


@lru_cache
def best_gold(topics: int, length: int) -> float:
    """The gold of the best string there is about so many topics; which they are does not matter."""
    some = NOUNS[:topics]
    return gold(some, length, best_rest(some, length, ()))


@lru_cache(maxsize=20_000)
def best_rest(topics: tuple[str, ...], length: int, said: tuple[str, ...]) -> tuple[str, ...]:
    """The words that make the best string of what was said, exactly.

    A further use of a word is worth less than the one before, so the best `more` words are the `more` best uses. They
    can be put in an order with at most `beside` of them beside themselves if and only if no word is among them
    more than (more + beside + 1) / 2 times, and the word said last no more than (more + beside) / 2 times: trying every
    `more` and `beside` finds the best. (A word that is not ours would be worse than one of ours in its place.)
    """
    counts, last = Counter(said), said[-1] if said else ""
    longest = max(0, length - len(said)) + len(topics) + len(LIKED)  # beyond, no word is worth its length
    uses = sorted(
        (-_gain(topics, word, counts[word] + use), use, word) for word in WORDS for use in range(longest)
    )
    best: tuple[float, list[str]] = (-LENGTH * abs(len(said) - length), [])
    for both in range(1, 2 * longest + 1):  # more + beside
        total, chosen = 0.0, []
        for loss, use, word in uses:
            if use >= (both if word == last else both + 1) // 2:
                continue
            total, more = total - loss, len(chosen) + 1
            chosen.append(word)
            value = total - BESIDE * (both - more) - LENGTH * abs(len(said) + more - length)
            if value > best[0]:
                best = (value, chosen[:])
            if more == min(both, longest):
                break
    return tuple(_spread(best[1], last))


def _gain(topics: Sequence[str], word: str, use: int) -> float:
    """What a word's use is worth after `use` earlier ones."""
    worth = TOPIC if word in topics else GOOD if word in LIKED else 0.0
    named = MISSING if use == 0 and word in topics else 0.0
    return worth * HALVED**use + named - (OVERUSE if use >= OFTEN else 0.0)


def _spread(chosen: Sequence[str], last: str) -> list[str]:
    """The words in an order in which as few as can be stand beside themselves: always the commonest that may follow."""
    left, ordered = Counter(sorted(chosen)), []
    while left:
        free = [word for word in left if word != last] or list(left)
        last = max(free, key=lambda word: left[word])
        ordered.append(last)
        left -= Counter((last,))
    return ordered
