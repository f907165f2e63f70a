"""graphs: steps that a GPU goes through by itself: the compiler's step, recorded once as a CUDA graph and played again.

A step of `compiled` is some hundred launches, and asking for them takes longer than they do. Here tokens, positions and the
cache stay where they are, a step itself writes what the next one reads, and lengths are known to the device alone
(`live_attention`), so that one recording serves all steps of so many rows. Counts of rows are rounded up: the rows added
stand at the beginning of free slots, read one token, and what they write is overwritten when a row comes.
Shapes: B rows that run, P with those added.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from triton import knobs

from nanoschool.core import attention, compiled, compiler
from nanoschool.core.cache import Pool
from nanoschool.core.draw import Drawn
from nanoschool.core.live_attention import ALIGNED
from nanoschool.core.model import GPT
from nanoschool.types import UserError

# rows are rounded up: to the first, to its doubles as far as the second, or to a multiple of the second
LEAST, STRIDE = 8, 64


class Step(attention.Step):
    """The rows of a step, and their places among those of a loop."""

    shortest = 512  # only what is live is read: a short row pays for no long one beside it, but in memory
    spare = ALIGNED

    def __init__(self, pools: Sequence[Pool], lengths_B: np.ndarray, device: torch.device) -> None:
        super().__init__(pools, lengths_B, device)
        counts = [block.past - block.first for block in self.blocks]
        self.sizes = [_rounded(count) for count in counts]
        for block, count, size in zip(self.blocks, counts, self.sizes, strict=True):
            block.pool.reserve(size - count)
        starts = accumulate(self.sizes, initial=0)
        places = [start + i for start, count in zip(starts, counts, strict=False) for i in range(count)]
        self.places_B = torch.tensor(places, device=device)
        self.loop: Loop | None = None  # before the first of these steps

    def _bias(self, pool: Pool, at_B: Tensor) -> None:
        """None: the kernel compares positions."""


class Loop:
    """What steps of so many rows of these pools read and write, always in the same place."""

    def __init__(
        self, pools: Sequence[Pool], sizes: Sequence[int], temperature: float, device: torch.device
    ) -> None:
        self.pools, self.greedy, P = pools, not temperature, sum(sizes)
        self.tokens_P = torch.zeros(P, dtype=torch.int64, device=device)
        self.at_P, self.more_P = torch.zeros_like(self.tokens_P), torch.zeros_like(self.tokens_P)
        self.u_P = torch.zeros(P, dtype=torch.float64, device=device)
        self.heat = torch.tensor([temperature or 1.0], device=device)
        self.views = [
            compiled.View(pool.keys, pool.values, rows_B.clone(), torch.arange(len(rows_B), device=device))
            for pool, rows_B in zip(pools, torch.arange(P, device=device).split(list(sizes)), strict=True)
        ]

    @property
    def stale(self) -> bool:
        """The cache of a pool that has grown lies elsewhere."""
        return any(view.keys is not pool.keys for view, pool in zip(self.views, self.pools, strict=True))

    def place(self, step: Step, tokens_B: Tensor) -> None:
        """Where rows stand now; those added stay at their first position."""
        for mine_P, theirs in ((self.tokens_P, tokens_B), (self.at_P, step.at_B), (self.more_P, 1)):
            mine_P.zero_()[step.places_B] = theirs

    def once(self, fused: compiled.Compiled) -> Drawn:
        """One step; the next reads the token that it draws, a position on."""
        drawn = compiled.whole_step(
            fused, self.tokens_P, self.at_P, self.u_P, self.heat, self.greedy, self.views
        )
        self.tokens_P.copy_(drawn[0])
        self.at_P += self.more_P
        return drawn


class Recording:
    """Work of a GPU, done again at every call on the same tensors; what it gives lies in the same place, too."""

    def __init__(self, work: Callable[[], Drawn], memory: "torch.cuda._POOL_HANDLE") -> None:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            work()  # what is compiled, loaded or tried out at a first time may not be while recording
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=memory):
            self.drawn = work()

    def __call__(self) -> Drawn:
        self.graph.replay()
        return self.drawn


class Graphed(compiled.Compiled):
    def __init__(self, model: GPT, dtype: torch.dtype) -> None:
        super().__init__(model, dtype)
        self.device = model.cos.device
        self.memory = torch.cuda.graph_pool_handle() if self.device.type == "cuda" else None
        self.loops: dict[tuple, tuple[Loop, Callable[[], Drawn]]] = {}

    def step(self, tokens_B: Tensor, step: attention.Step, temperature: float, u_B: Tensor) -> Drawn:
        assert isinstance(step, Step)
        pools = [block.pool for block in step.blocks]
        key = (temperature, *step.sizes, *pools)
        if step.loop is None:
            self.loops = {old: known for old, known in self.loops.items() if not known[0].stale}
            if key not in self.loops:
                loop = Loop(pools, step.sizes, temperature, self.device)
                loop.place(step, tokens_B)  # what is run to be recorded writes the keys and values it should
                self.loops[key] = loop, self._recorded(loop)
            step.loop = self.loops[key][0]
            step.loop.place(step, tokens_B)
        loop, again = self.loops[key]
        loop.u_P[step.places_B] = u_B
        token_P, logprob_P, entropy_P = again()
        return token_P[step.places_B], logprob_P[step.places_B], entropy_P[step.places_B]

    def _recorded(self, loop: Loop) -> Callable[[], Drawn]:
        work = partial(loop.once, self)
        if self.memory:
            return Recording(work, self.memory)
        work()  # as a recording begins
        return work


def _rounded(rows: int) -> int:
    if rows > STRIDE:
        return -(-rows // STRIDE) * STRIDE
    return max(LEAST, 1 << (rows - 1).bit_length())


def check(device: str) -> None:
    """UserError where there is no GPU to record a step; Triton's interpreter, in tests, does without."""
    if device != "cuda" and not knobs.runtime.interpret:
        told = f"graphed steps need a CUDA GPU, and this is {device}"
        raise UserError(f"{told}; on this machine give --sampling.steps auto")
    compiler.check(device)
