"""Engine: many conversations at once, each a row of one key-value cache, advanced together a token a step.

Rows may have different lengths; a group shares its prefill by forking; a row that gets a tool's answer keeps its
cache; log-probabilities and entropies are recorded in the pass that samples. The draw of a token is a function of
(session seed, row key, position), whatever the rows beside it.
Shapes: B rows, S new tokens, H query heads, G key-value heads, K head width, T cached positions, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from nanoschool.core.model import GPT
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.ledger import Ledger
from nanoschool.types import UserError


@dataclass(eq=False)
class Row:
    """One conversation. The lists have one entry a token and grow as it is sampled."""

    key: int
    tokens: list[int]
    mask: list[bool]
    logprobs: list[float]
    entropies: list[float]
    slot: int
    cached: int = 0  # tokens whose keys and values are in the cache
    turn: int = 0  # where the current reply starts
    end: int = 0  # the length at which it is cut off
    stop: tuple[bytes, ...] = ()
    said: bytes = field(default=b"", repr=False)  # the current reply's bytes
    running: bool = True
    stop_reason: str = ""

    @property
    def reply(self) -> str:
        """The current reply's text, up to and with its stop string, without end tokens."""
        said = self.said
        if self.stop_reason == "stop":
            ends = [said.find(s) + len(s) for s in self.stop if s in said]
            said = said[: min(ends)]
        return said.decode("utf-8", errors="replace")


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
        self.capacity = (0, 0)  # slots, positions
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

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
        self._reserve(len(self.rows), row.cached)
        for cache in self.keys + self.values:
            cache[twin.slot, :, : row.cached] = cache[row.slot, :, : row.cached]
        return twin

    @torch.inference_mode()
    def close(self, row: Row) -> None:
        """Forget a row; the last row moves into its slot."""
        self._check(row)
        last = self.rows.pop()
        if last is not row:
            for cache in self.keys + self.values:
                cache[row.slot, :, : last.cached] = cache[last.slot, :, : last.cached]
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
        drawn, logprobs, entropies = self._draw(self.model.logits(x_B1D[:, 0]), running, positions_B)
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
        device, S = tokens_BS.device, tokens_BS.shape[1]
        starts_B = torch.tensor([row.cached for row in rows], device=device)
        T = max(row.cached + n for row, n in zip(rows, counts, strict=True))
        self._reserve(len(self.rows), T)
        dense = len(rows) == len(self.rows)
        slots_B = torch.tensor([row.slot for row in rows], device=device)
        steps_S = torch.arange(S, device=device)
        positions_BS = starts_B[:, None] + steps_S
        # padding must write nothing: a row's unused positions may lie beyond the cache
        live_B, live_S = torch.nonzero(steps_S < torch.tensor(counts, device=device)[:, None], as_tuple=True)
        at_slot, at_position = slots_B[live_B], positions_BS[live_B, live_S]
        positions_BS = positions_BS.clamp(max=self.model.config.context - 1)
        hidden_BST = torch.arange(T, device=device) > positions_BS[:, :, None]
        bias_B1ST = torch.zeros(hidden_BST.shape, device=device).masked_fill_(hidden_BST, float("-inf"))[
            :, None, None
        ]

        def attend(layer: int, q_BHSK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor) -> Tensor:
            keys, values = self.keys[layer], self.values[layer]
            keys[at_slot, :, at_position] = k_BGSK[live_B, :, live_S]
            values[at_slot, :, at_position] = v_BGSK[live_B, :, live_S]
            k_BGTK = keys[: len(rows), :, :T] if dense else keys[slots_B, :, :T]
            v_BGTK = values[: len(rows), :, :T] if dense else values[slots_B, :, :T]
            B, H, _, K = q_BHSK.shape
            q = (
                q_BHSK.reshape(B, k_BGTK.shape[1], -1, S, K) * K**-0.5
            )  # query heads of one key head side by side
            scores = torch.einsum("bgrsk,bgtk->bgrst", q, k_BGTK) + bias_B1ST
            return torch.einsum("bgrst,bgtk->bgrsk", scores.softmax(-1), v_BGTK).reshape(B, H, S, K)

        x_BSD = self.model(tokens_BS, positions_BS, attend)
        for row, n in zip(rows, counts, strict=True):
            row.cached += n
        return x_BSD

    def _reserve(self, slots: int, positions: int) -> None:
        """Grow the cache, by doubling, to hold so many rows of so many positions."""
        if slots <= self.capacity[0] and positions <= self.capacity[1]:
            return
        c, old = self.model.config, self.capacity
        have = max(old[0], 8), max(old[1], 64)
        while have[0] < slots:
            have = have[0] * 2, have[1]
        while have[1] < positions:
            have = have[0], have[1] * 2
        self.capacity = have[0], min(have[1], c.context)
        for caches in (self.keys, self.values):
            for layer in range(c.layers):
                shape = (self.capacity[0], c.kv_heads, self.capacity[1], c.head_width)
                grown = torch.zeros(shape, device=self.model.cos.device)
                if old[0]:
                    grown[: old[0], :, : old[1]] = caches[layer]
                    caches[layer] = grown
                else:
                    caches.append(grown)

    def _draw(self, logits_BV: Tensor, rows: list[Row], positions: list[int]) -> tuple[list, list, list]:
        logprobs_BV = torch.log_softmax(logits_BV / (self.temperature or 1.0), dim=-1)
        p_BV = logprobs_BV.exp()
        if self.temperature == 0:
            token_B = logits_BV.argmax(-1)
        else:
            keys = np.array([row.key for row in rows], dtype=np.uint64)
            u_B = torch.from_numpy(uniform(self.seed, keys, np.array(positions))).to(logits_BV.device)
            cumulative_BV = p_BV.double().cumsum(-1)
            token_B = (
                (cumulative_BV <= u_B[:, None] * cumulative_BV[:, -1:]).sum(-1).clamp(max=p_BV.shape[1] - 1)
            )
        entropy_B = -(p_BV * logprobs_BV.clamp(min=-1e4)).sum(-1)
        logprob_B = logprobs_BV.gather(1, token_B[:, None])[:, 0]
        return token_B.tolist(), logprob_B.tolist(), entropy_B.tolist()


def uniform(seed: int, keys: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1), a pure function of (seed, key, position): three rounds of splitmix64's finaliser."""
    with np.errstate(over="ignore"):
        x = keys.astype(np.uint64) ^ np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
        for add in (
            np.uint64(0x9E3779B97F4A7C15),
            positions.astype(np.uint64),
            np.uint64(0xD1B54A32D192ED03),
        ):
            x = x + add
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) / 2.0**53
