"""rig: what the sections of bench/gpu.py share: sizes, models, a clock, and the lines of a table."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from random import Random

import torch

from bench.given import Endless
from nanoschool.core.config import ModelConfig
from nanoschool.core.model import GPT
from nanoschool.core.policy import Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.lab.ceilings import Ceilings, ceilings, synchronise
from nanoschool.ledger import Ledger

HEAD = "| work | size | measured | of the ceiling | target |\n|---|---|---|---|---|"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Plan:
    """The sizes of it all."""

    device: str = "cuda"
    depths: tuple[int, ...] = (13, 19)  # 120M and 340M parameters; the first samples
    vocab: int = 24_576
    context: int = 1024
    trained: int = 32  # rows of a training step, each a whole context
    rows: int = 512  # of decode
    prompt: int = 512
    said: int = 64
    problems: int = 64  # of a step of GRPO
    samples: int = 16
    reply: int = 256
    steps: tuple[str, ...] = ("graphed", "eager")  # ways to make a step, the preset's first


class Rig:
    """What the sections share."""

    def __init__(self, plan: Plan, show: Callable[[str], None]) -> None:
        self.plan, self.show = plan, show
        rng = Random(0)
        texts = [" ".join("".join(rng.choices(LETTERS, k=6)) for _ in range(8000)) for _ in range(8)]
        self.tokenizer = Tokenizer.train(texts, plan.vocab)

    @cached_property
    def limits(self) -> Ceilings:
        return ceilings(self.plan.device)

    def policy(self, depth: int) -> Endless:
        config = ModelConfig.from_depth(depth, self.tokenizer.vocab_size, self.plan.context)
        model = GPT(config, seed=1).to(self.plan.device)
        with torch.no_grad():
            model.model.norm.weight.fill_(0.15)  # so that what it says is sharply unlike chance
        return Endless(model, self.tokenizer, Ledger())

    def prompt(self, length: int, seed: int) -> list[int]:
        rng = Random(seed)
        return [self.tokenizer.bos] + [rng.randrange(256) for _ in range(length - 1)]

    def row(self, work: str, size: str, measured: str, share: str = "", target: str = "") -> None:
        self.show(f"| {work} | {size} | {measured} | {share} | {target} |")

    def timed(self, work: Callable[[], object]) -> float:
        synchronise(self.plan.device)
        start = time.perf_counter()
        work()
        synchronise(self.plan.device)
        return time.perf_counter() - start


def size(policy: Policy) -> str:
    c, count = policy.model.config, sum(p.numel() for p in policy.model.parameters())
    return f"{count / 1e6:.0f}M parameters, vocabulary {c.vocab}, context {c.context}"
