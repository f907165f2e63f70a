"""Engine: many conversations at once, each a row of one key-value cache, advanced together a token a step.

Rows may have different lengths; a group shares its prefill by forking; a row that gets a tool's answer keeps its
cache; log-probabilities and entropies are recorded in the pass that samples. The draw of a token is a function of
(session seed, row key, position), whatever the rows beside it.
Shapes: B rows, S new tokens, D width, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nanoschool.core.cache import Cache
from nanoschool.core.draw import draw
from nanoschool.core.model import GPT
from nanoschool.core.row import Row
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.ledger import Ledger
from nanoschool.types import UserError


class Session:
    """A cache and the rows that live in it. Temperature 0 is greedy; log-probabilities are then those at 1."""

    def __init__(
        self, model: GPT, tokenizer: Tokenizer, ledger: Ledger, seed: int, temperature: float
    ) -> None:
        self.model, self.tokenizer, self.ledger = model, tokenizer, ledger
        self.seed, self.temperature = seed, temperature
        self.rows: list[Row] = []  # rows[i].slot == i: the cache stays dense
        self.ends = {tokenizer.end, tokenizer.bos}
        self.marks = frozenset(tokenizer.special.values())  # no text
        self.cache = Cache(model.config, model.cos.device)

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
        row = Row(key, [], [], [], [], slot=-1)
        self._append(row, [*tokens, *begun], max_tokens - len(begun), stop)
        row.turn -= len(begun)
        row.said = b"".join(self.tokenizer.token_bytes(t) for t in begun if t not in self.marks)
        if self.ends & set(begun) or any(s in row.said for s in row.stop):
            raise UserError(
                f"the reply {row.said.decode('utf-8', 'replace')!r} is no unfinished one: it has ended"
            )
        row.slot = len(self.rows)
        self.rows.append(row)
        return row

    def extend(self, row: Row, tokens: Sequence[int], *, max_tokens: int, stop: tuple[str, ...] = ()) -> None:
        """Append tokens that somebody else wrote, and let the policy speak again. Keeps the cache."""
        self._check(row)
        self._append(row, tokens, max_tokens, stop)

    @torch.inference_mode()
    def fork(self, row: Row, *, key: int) -> Row:
        """A copy of a row in any state, inside a reply too; what it has read is not read again."""
        self._check(row)
        self._prefill([r for r in self.rows if r.running])
        twin = Row(
            key, list(row.tokens), list(row.mask), list(row.logprobs), list(row.entropies), len(self.rows)
        )
        twin.cached, twin.turn, twin.end, twin.stop = row.cached, row.turn, row.end, row.stop
        twin.said, twin.running, twin.stop_reason = row.said, row.running, row.stop_reason
        self.rows.append(twin)
        self.cache.reserve(len(self.rows), row.cached)
        self.cache.copy(row.slot, twin.slot, row.cached)
        return twin

    @torch.inference_mode()
    def close(self, row: Row) -> None:
        """Forget a row; the last row moves into its slot."""
        self._check(row)
        last = self.rows.pop()
        if last is not row:
            self.cache.copy(last.slot, row.slot, last.cached)
            last.slot = row.slot
            self.rows[row.slot] = last
        row.slot, row.running = -1, False

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Sample one token for every running row; returns the rows whose reply ended with it."""
        running = [row for row in self.rows if row.running]
        if not running:
            return []
        self._prefill(running)
        positions_B = [len(row.tokens) - 1 for row in running]
        tokens_B1 = torch.tensor([[row.tokens[-1]] for row in running], device=self.model.cos.device)
        x_B1D = self._forward(running, tokens_B1, [1] * len(running))
        self._charge(positions_B, [1] * len(running), scored=len(running), sampled=len(running))
        logits_BV, keys = self.model.logits(x_B1D[:, 0]), [row.key for row in running]
        drawn, logprobs, entropies = draw(logits_BV, self.temperature, self.seed, keys, positions_B)
        ended = []
        for row, token, logprob, entropy in zip(running, drawn, logprobs, entropies, strict=True):
            row.tokens.append(token)
            row.mask.append(True)
            row.logprobs.append(logprob)
            row.entropies.append(entropy)
            if token in self.ends:
                row.stop_reason = "end"
            else:
                if token not in self.marks:
                    row.said += self.tokenizer.token_bytes(token)
                if row.stop and any(s in row.said for s in row.stop):
                    row.stop_reason = "stop"
                elif len(row.tokens) >= row.end:
                    row.stop_reason = "length"
            if row.stop_reason:
                row.running = False
                ended.append(row)
        return ended

    # -- inside ----------------------------------------------------------------------------------------------------

    def _check(self, row: Row) -> None:
        if not 0 <= row.slot < len(self.rows) or self.rows[row.slot] is not row:
            raise ValueError("this row is closed, or of another session")

    def _append(self, row: Row, tokens: Sequence[int], max_tokens: int, stop: tuple[str, ...]) -> None:
        context = self.model.config.context
        if max_tokens < 1:
            raise UserError(f"a reply may have {max_tokens} more tokens; it needs room for one at least")
        if "" in stop:
            raise UserError(f"stop strings {stop}: an empty one would end every reply")
        if len(row.tokens) + len(tokens) >= context:
            longest = (
                f"{len(row.tokens) + len(tokens)} tokens leave no room for a reply in a context of {context}"
            )
            raise UserError(f"conversation too long: {longest}")
        row.tokens += tokens
        row.mask += [False] * len(tokens)
        row.logprobs += [0.0] * len(tokens)
        row.entropies += [0.0] * len(tokens)
        row.turn, row.end = len(row.tokens), min(len(row.tokens) + max_tokens, context)
        row.stop, row.said, row.stop_reason, row.running = tuple(s.encode() for s in stop), b"", "", True

    @torch.inference_mode()
    def _prefill(self, rows: list[Row]) -> None:
        """Read all but the last token of rows that have more than one to read, together."""
        rows = [row for row in rows if len(row.tokens) - row.cached > 1]
        if not rows:
            return
        counts = [len(row.tokens) - 1 - row.cached for row in rows]
        starts = [row.cached for row in rows]
        new = [
            row.tokens[row.cached : -1] + [0] * (max(counts) - n) for row, n in zip(rows, counts, strict=True)
        ]
        self._forward(rows, torch.tensor(new, device=self.model.cos.device), counts)
        self._charge(starts, counts, scored=0, sampled=0)

    def _charge(self, starts: list[int], counts: list[int], scored: int, sampled: int) -> None:
        attended = sum(n * s + n * (n + 1) // 2 for s, n in zip(starts, counts, strict=True))
        flops = self.model.config.flops(sum(counts), attended, scored)
        self.ledger.charge(flops=flops, tokens=sum(counts), sampled=sampled)

    def _forward(self, rows: list[Row], tokens_BS: Tensor, counts: list[int]) -> Tensor:
        """Run new tokens through the model against the cache, which keeps their keys and values; (B, S, D)."""
        starts = [row.cached for row in rows]
        self.cache.reserve(len(self.rows), max(s + n for s, n in zip(starts, counts, strict=True)))
        positions_BS, attend = self.cache.reader([row.slot for row in rows], starts, counts)
        x_BSD = self.model(tokens_BS, positions_BS, attend)
        for row, n in zip(rows, counts, strict=True):
            row.cached += n
        return x_BSD
