"""Engine: many conversations at once, each a row of a key-value cache, advanced together a token a step.

Rows come, pause, go on and leave at any time; a group shares its prefill by forking; a row that gets a tool's answer
keeps its cache; log-probabilities and entropies are recorded in the pass that samples. The draw of a token is a function of
(session seed, row key, position), whatever the rows beside it. A step computes on arrays of all rows; what is done row by
row is done when a row begins, ends or moves.
Shapes: B rows that run, N tokens of all rows end to end, D width, V vocabulary.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from nanoschool.core.cache import Kept
from nanoschool.core.config import ModelConfig
from nanoschool.core.draw import on_host
from nanoschool.core.endings import Endings
from nanoschool.core.model import GPT
from nanoschool.core.row import Record, Row
from nanoschool.core.sampling import EXACT, Sampling
from nanoschool.core.scheduler import Live, Scheduler
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.ledger import Ledger
from nanoschool.types import UserError


class Session:
    """A cache and the rows that live in it. Temperature 0 is greedy; log-probabilities are then those at 1.

    The weights may not change while it is used.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        ledger: Ledger,
        seed: int,
        temperature: float,
        sampling: Sampling = EXACT,
    ) -> None:
        self.config, self.device = model.config, model.cos.device
        self.tokenizer, self.ledger = tokenizer, ledger
        self.seed, self.temperature = seed, temperature
        self.rows: list[Row] = []
        self.endings = Endings(tokenizer, self.config.vocab, (tokenizer.end, tokenizer.bos))
        self.record, (fused, step, dtype) = Record(), sampling.parts(self.device.type)
        self._fused = fused(model, dtype)
        self._charge = partial(
            _charge, self.config, ledger
        )  # knows no session, so that a cache goes with its own
        self._scheduler = Scheduler(self._fused, step, self.device, self._charge)
        self._live: Live | None = None  # None when rows have begun, ended or outgrown their pool

    # -- what a caller does with a row ---------------------------------------------------------------------------

    def start(
        self,
        tokens: Sequence[int],
        *,
        key: int,
        max_tokens: int,
        stop: tuple[str, ...] = (),
        begun: Sequence[int] = (),
    ) -> Row:
        """A new row whose reply follows `tokens`; nothing is computed before `step` or `fork`.

        `begun` is the reply's beginning where it is given: part of its text and of its `max_tokens`, not sampled.
        """
        if not tokens:
            raise UserError("a conversation needs at least one token before the reply")
        row = Row(key, self.record, self.tokenizer)
        self._append(row, [*tokens, *begun], max_tokens, stop, len(begun))
        row.unread = row.length - 1
        if self.endings.ends & set(begun) or any(s in row.said for s in row.stop):
            said = row.said.decode("utf-8", "replace")
            raise UserError(f"the reply {said!r} is no unfinished one: it has ended")
        self.rows.append(row)
        return row

    def hold(
        self, tokens: Sequence[int], *, max_tokens: int, stop: tuple[str, ...] = (), begun: Sequence[int] = ()
    ) -> Row:
        """A row that says nothing itself: what it holds is read once, for all its forks, whenever they come."""
        row = self.start(tokens, key=0, max_tokens=max_tokens, stop=stop, begun=begun)
        row.running, row.held, row.kept = False, True, Kept()
        return row

    def extend(self, row: Row, tokens: Sequence[int], *, max_tokens: int, stop: tuple[str, ...] = ()) -> None:
        """Append tokens that somebody else wrote, and let the policy speak again. Keeps the cache."""
        self._check(row)
        self._append(row, tokens, max_tokens, stop)
        row.unread += len(tokens)

    @torch.inference_mode()
    def fork(self, row: Row, *, key: int) -> Row:
        """A copy of a row in any state, inside a reply too; what it has read is not read again."""
        self._check(row)
        if row.unread and not row.held:
            self._line_up()
        twin = row.fork(key)
        if row.held:
            twin.running, twin.kept = True, row.kept
        elif row.cached:
            twin.kept = row.pool.keep(row.slot, row.cached) if row.pool else row.kept
        self.rows.append(twin)
        self._live = None
        return twin

    @torch.inference_mode()
    def close(self, row: Row) -> None:
        """Forget a row."""
        self._check(row)
        if row.held:
            self._scheduler.read_held(self.rows)  # its forks may wait for it
        if row.pool:
            row.pool.leave(row)
        self.rows.remove(row)
        row.close()
        row.kept = self._live = None

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Sample one token for every running row; returns the rows whose reply ended with it."""
        live = self._live or self._line_up()
        B = len(live.rows)
        if not B:
            return []
        drawn = self._fused.step(live.tokens_B, live.step, self.temperature, live.uniform(self.seed))
        live.tokens_B = drawn[0]
        self._charge(B, int(live.at_B.sum()) + B, B)
        drawn_B, logprob_B, entropy_B = on_host(drawn)
        self.record.put(live.seats_B, drawn_B, logprob_B, entropy_B)
        live.at_B += 1
        over_B = (live.at_B + 1 >= live.ends_B) | self.endings.may_EV[live.stops_B, drawn_B]
        ended = []
        for i in np.flatnonzero(over_B):
            row = live.rows[i]
            if drawn_B[i] in self.endings.ends:
                row.stop_reason = "end"
            elif row.stop and any(s in row.said for s in row.stop):
                row.stop_reason = "stop"
            elif row.length >= row.end:
                row.stop_reason = "length"
            if row.stop_reason:
                row.running = False
                ended.append(row)
        if ended or not live.step.advance():
            self._live = None
        return ended

    # -- inside ----------------------------------------------------------------------------------------------------

    def _check(self, row: Row) -> None:
        if row.seat < 0 or row.record is not self.record:
            raise ValueError("this row is closed, or of another session")

    def _append(
        self, row: Row, tokens: Sequence[int], max_tokens: int, stop: tuple[str, ...], begun: int = 0
    ) -> None:
        context, length = self.config.context, row.length + len(tokens)
        if max_tokens - begun < 1:
            raise UserError(
                f"a reply may have {max_tokens - begun} more tokens; it needs room for one at least"
            )
        if "" in stop:
            raise UserError(f"stop strings {stop}: an empty one would end every reply")
        if length >= context:
            longest = f"{length} tokens leave no room for a reply in a context of {context}"
            raise UserError(f"conversation too long: {longest}")
        row.hear(tokens, begun)
        row.end, row.stop = min(length - begun + max_tokens, context), tuple(s.encode() for s in stop)
        row.running, self._live = True, None

    def _line_up(self) -> Live:
        self._live = self._scheduler.line_up(self.rows, self.endings)
        return self._live


def _charge(config: ModelConfig, ledger: Ledger, tokens: int, attended: int, sampled: int) -> None:
    ledger.charge(flops=config.flops(tokens, attended, sampled), tokens=tokens, sampled=sampled)
