"""row: one conversation in the engine, and the text of the reply under way.

While rows run, what is sampled is written to arrays, all rows at once; a row takes its own part when somebody asks for it.
Shapes: R seats, B rows that run.
"""

from collections.abc import Sequence

import numpy as np

from nanoschool.core.cache import Kept, Pool
from nanoschool.core.tokenizer import Tokenizer


class Record:
    """What was sampled and is not yet in a row's own lists. A seat is a row's; it grows by doubling."""

    def __init__(self) -> None:
        self.counts_R = np.zeros(8, dtype=np.int64)
        self.tokens = np.zeros((8, 32), dtype=np.int64)
        self.logprobs = np.zeros((8, 32), dtype=np.float32)
        self.entropies = np.zeros((8, 32), dtype=np.float32)
        self.free = list(range(8))

    def seat(self) -> int:
        if not self.free:
            seats = len(self.counts_R)
            self.free = list(range(seats, 2 * seats))
            self.counts_R = np.pad(self.counts_R, (0, seats))
            self._grow((0, seats), (0, 0))
        seat = self.free.pop()
        self.counts_R[seat] = 0
        return seat

    def put(
        self, seats_B: np.ndarray, tokens: np.ndarray, logprobs: np.ndarray, entropies: np.ndarray
    ) -> None:
        """One token in each seat."""
        at_B = self.counts_R[seats_B]
        if at_B.max() == self.tokens.shape[1]:
            self._grow((0, 0), (0, self.tokens.shape[1]))
        self.tokens[seats_B, at_B] = tokens
        self.logprobs[seats_B, at_B] = logprobs
        self.entropies[seats_B, at_B] = entropies
        self.counts_R[seats_B] = at_B + 1

    def take(self, seat: int) -> tuple[list[int], list[float], list[float]]:
        """What came since it was last asked for."""
        count = self.counts_R[seat]
        self.counts_R[seat] = 0
        arrays = self.tokens, self.logprobs, self.entropies
        tokens, logprobs, entropies = (array[seat, :count].tolist() for array in arrays)
        return tokens, logprobs, entropies

    def _grow(self, seats: tuple[int, int], steps: tuple[int, int]) -> None:
        self.tokens = np.pad(self.tokens, (seats, steps))
        self.logprobs = np.pad(self.logprobs, (seats, steps))
        self.entropies = np.pad(self.entropies, (seats, steps))


class Row:
    """One conversation. `tokens`, `mask`, `logprobs` and `entropies` have one entry a token and grow as it is sampled."""

    def __init__(self, key: int, record: Record, tokenizer: Tokenizer) -> None:
        self.key, self.record, self.tokenizer = key, record, tokenizer
        self.seat = record.seat()  # -1 when it is closed
        self._tokens: list[int] = []
        self._mask: list[bool] = []
        self._logprobs: list[float] = []
        self._entropies: list[float] = []
        self.pool: Pool | None = None  # where its keys and values are, or
        self.kept: Kept | None = None
        self.slot = -1
        self.unread = 0  # tokens that are read before the next is sampled; that reads the last one
        self.turn = 0  # where the current reply starts
        self.end = 0  # the length at which it is cut off
        self.stop: tuple[bytes, ...] = ()
        self.running = True
        self.held = False  # only forked, never sampled
        self.stop_reason = ""
        self._said, self._told = b"", 0  # the current reply's bytes, up to which token

    def fork(self, key: int) -> "Row":
        """The same conversation under another key; its cache is the caller's matter."""
        twin = Row(key, self.record, self.tokenizer)
        twin._tokens, twin._mask = list(self.tokens), list(self.mask)
        twin._logprobs, twin._entropies = list(self.logprobs), list(self.entropies)
        twin.unread = 0 if self.held else self.unread
        twin.turn, twin.end, twin.stop, twin.running = self.turn, self.end, self.stop, self.running
        twin.stop_reason, twin._said, twin._told = self.stop_reason, self._said, self._told
        return twin

    def hear(self, tokens: Sequence[int], begun: int) -> None:
        """Append tokens that were not sampled, the last `begun` of them as the beginning of a new reply."""
        self._take()
        self._tokens += tokens
        self._mask += [False] * len(tokens)
        self._logprobs += [0.0] * len(tokens)
        self._entropies += [0.0] * len(tokens)
        self.turn = self._told = len(self._tokens) - begun
        self._said, self.stop_reason = b"", ""

    def close(self) -> None:
        self._take()
        self.record.free.append(self.seat)
        self.seat, self.running = -1, False

    @property
    def length(self) -> int:
        """How many tokens it holds."""
        return len(self._tokens) + (int(self.record.counts_R[self.seat]) if self.seat >= 0 else 0)

    @property
    def cached(self) -> int:
        """Tokens whose keys and values are in the cache."""
        return self.length - 1 - self.unread

    @property
    def last(self) -> int:
        """Its last token."""
        count = self.record.counts_R[self.seat]
        return int(self.record.tokens[self.seat, count - 1]) if count else self._tokens[-1]

    @property
    def tokens(self) -> list[int]:
        self._take()
        return self._tokens

    @property
    def mask(self) -> list[bool]:
        self._take()
        return self._mask

    @property
    def logprobs(self) -> list[float]:
        self._take()
        return self._logprobs

    @property
    def entropies(self) -> list[float]:
        self._take()
        return self._entropies

    @property
    def said(self) -> bytes:
        """The current reply's bytes; special tokens hold none."""
        if self._told < self.length:
            self._said += self.tokenizer.text_bytes(self.tokens[self._told :])
            self._told = len(self._tokens)
        return self._said

    @property
    def reply(self) -> str:
        """The current reply's text, up to and with its stop string, without end tokens."""
        said = self.said
        if self.stop_reason == "stop":
            ends = [said.find(s) + len(s) for s in self.stop if s in said]
            said = said[: min(ends)]
        return said.decode("utf-8", errors="replace")

    def _take(self) -> None:
        if self.seat >= 0 and self.record.counts_R[self.seat]:
            tokens, logprobs, entropies = self.record.take(self.seat)
            self._tokens += tokens
            self._mask += [True] * len(tokens)
            self._logprobs += logprobs
            self._entropies += entropies
