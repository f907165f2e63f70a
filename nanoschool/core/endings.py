"""endings: which tokens may end a reply, as a table, so that a row's text is looked at only where it could have ended.

Shapes: E sets of stop strings, V vocabulary.
"""

from collections.abc import Collection

import numpy as np

from nanoschool.core.tokenizer import Tokenizer


class Endings:
    """End tokens end every reply; a stop string ends those of the rows that have it."""

    def __init__(self, tokenizer: Tokenizer, vocab: int, ends: Collection[int]) -> None:
        self.tokenizer, self.vocab, self.ends = tokenizer, vocab, frozenset(ends)
        self.numbers: dict[tuple[bytes, ...], int] = {}
        self.may_EV = np.zeros((0, vocab), dtype=bool)
        self.number(())

    def number(self, stop: tuple[bytes, ...]) -> int:
        """The line of `may_EV` for rows with these stop strings."""
        if stop not in self.numbers:
            self.numbers[stop] = len(self.may_EV)
            self.may_EV = np.vstack((self.may_EV, self._may_end(stop)))
        return self.numbers[stop]

    def _may_end(self, stop: tuple[bytes, ...]) -> np.ndarray:
        """(V,) bool: end tokens, and those that hold a stop string or begin with the rest of one."""
        may_V = np.zeros(self.vocab, dtype=bool)
        may_V[list(self.ends)] = True
        tails = tuple({s[i:] for s in stop for i in range(len(s))})
        if stop:
            for token, piece in self.tokenizer.pieces():
                if piece.startswith(tails) or any(s in piece for s in stop):
                    may_V[token] = True
        return may_V
