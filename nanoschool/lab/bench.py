"""bench: training, prefill and decode through the code that `run` uses, against what this machine does at best.

FLOPs are the ledger's; bytes are those that cannot be avoided: weights, optimizer state, cached keys and values. A share
is the least time that either would take over the time that was taken.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random

import torch

from nanoschool import envs
from nanoschool.core.batch import Batch
from nanoschool.core.config import ModelConfig
from nanoschool.core.model import GPT
from nanoschool.core.optim import adamw
from nanoschool.core.policy import Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.lab.ceilings import Ceilings, forget_peak, peak_memory, synchronise
from nanoschool.ledger import Ledger
from nanoschool.types import HasDocuments, Trajectory

VOCAB, CONTEXT, ROWS, DEPTHS = 1024, 192, 32, (2, 3, 5)
WARMING, LEAST = 2, 1.0  # goes that do not count, and seconds of each measurement after them
DECODED = 32  # tokens a row


@dataclass(frozen=True)
class Subject:
    """What is measured: a model, and the rows that it is given."""

    name: str
    config: ModelConfig
    rows: int
    length: int  # tokens of a row

    def policy(self, tokenizer: Tokenizer, device: str) -> Policy:
        return Policy(GPT(self.config).to(device), tokenizer, Ledger())


@dataclass(frozen=True)
class Measured:
    work: str
    subject: Subject
    parameters: int
    dtype: torch.dtype
    rate: float  # tokens a second
    share: float  # of the ceiling that binds
    binds: str  # FLOPs or bytes
    peak: int | None  # bytes


Work = Callable[
    [Policy, Subject], Iterator[tuple[int, float]]
]  # each go: (tokens, bytes that had to be moved)


def sizes() -> list[Subject]:
    """Three models, the same rows."""
    made = [(depth, ModelConfig.from_depth(depth, VOCAB, CONTEXT)) for depth in DEPTHS]
    return [Subject(f"depth {depth}", config, ROWS, CONTEXT) for depth, config in made]


def grown() -> list[Subject]:
    """The middle one with four times the rows, the context, and the layers."""
    base = sizes()[1]
    longer = replace(base.config, context=4 * CONTEXT)
    return [
        replace(base, name="4 x rows", rows=4 * ROWS),
        replace(base, name="4 x context", config=longer, length=4 * CONTEXT, rows=ROWS // 4),
        replace(base, name="4 x layers", config=replace(base.config, layers=4 * base.config.layers)),
    ]


def measure(work: str, subject: Subject, tokenizer: Tokenizer, device: str, limits: Ceilings) -> Measured:
    """One line of the table."""
    policy = subject.policy(tokenizer, device)
    parameters = sum(p.numel() for p in policy.model.parameters())
    dtype = policy.fast if work == "training" else torch.float32
    goes = WORKS[work](policy, subject)
    forget_peak(device)
    for _ in range(WARMING):
        next(goes)
    tokens = moved = flops = seconds = 0.0
    while seconds < LEAST:
        before = policy.ledger.total().flops
        synchronise(device)
        start = time.perf_counter()
        done, bytes_moved = next(goes)
        synchronise(device)
        seconds += time.perf_counter() - start
        tokens, moved, flops = (
            tokens + done,
            moved + bytes_moved,
            flops + policy.ledger.total().flops - before,
        )
    share, binds = limits.share(dtype, flops, moved, seconds)
    return Measured(work, subject, parameters, dtype, tokens / seconds, share, binds, peak_memory(device))


def training(policy: Policy, subject: Subject) -> Iterator[tuple[int, float]]:
    """Optimizer steps of AdamW on whole rows; weights, gradients and two moments are read and written."""
    policy.optimizer = adamw(policy.model, 1e-4, betas=(0.9, 0.95))
    random, n = Random(0), subject.length
    mask, ones, zeros = [False] + [True] * (n - 1), [1.0] * n, [0.0] * n
    rows = [Trajectory(_words(random, policy, n), mask, zeros, ones) for _ in range(subject.rows)]
    batch, weights = Batch.of(rows), _bytes(policy)
    while True:
        policy.fit(batch, dtype=policy.fast)
        yield subject.rows * n, 8 * weights


def prefill(policy: Policy, subject: Subject) -> Iterator[tuple[int, float]]:
    """Prompts read, and the first token of each reply; weights are read, keys and values written."""
    random, n = Random(0), subject.length - DECODED
    while True:
        session = policy.open()
        for key in range(subject.rows):
            session.start(_words(random, policy, n), key=key, max_tokens=1)
        session.step()
        yield subject.rows * n, _bytes(policy) + subject.rows * n * _cached(subject.config)


def decode(policy: Policy, subject: Subject) -> Iterator[tuple[int, float]]:
    """One token for each row at a time, after half a context; weights, keys and values are read."""
    random, n = Random(0), subject.length // 2
    while True:
        session = policy.open()
        for key in range(subject.rows):
            session.start(_words(random, policy, n), key=key, max_tokens=DECODED + 1)
        session.step()
        for step in range(DECODED):
            before = policy.ledger.total().sampled
            session.step()
            live = int(policy.ledger.total().sampled - before)
            yield live, _bytes(policy) + live * (n + step + 1) * _cached(subject.config)


WORKS: dict[str, Work] = {"training": training, "prefill": prefill, "decode": decode}


def tokenizer() -> Tokenizer:
    """Of the documents of the worlds, as a run's."""
    random, texts = Random(0), []
    for name in ("rules", "chain", "sums", "facts", "stories"):
        world = envs.load(name)
        assert isinstance(world, HasDocuments)
        texts += ["".join(text for text, _ in world.document(random)) for _ in range(300)]
    return Tokenizer.train(texts, VOCAB)


def _words(random: Random, policy: Policy, n: int) -> list[int]:
    return [random.randrange(policy.tokenizer.vocab_size // 2) for _ in range(n)]


def _bytes(policy: Policy) -> float:
    """Of the weights."""
    return 4.0 * sum(p.numel() for p in policy.model.parameters())


def _cached(config: ModelConfig) -> float:
    """Bytes of a token's keys and values."""
    return 8.0 * config.layers * config.kv_heads * config.head_width
