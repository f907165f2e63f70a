"""gpu: what is asked of one GPU, measured in one go: `python bench/gpu.py`, under nine minutes, no network.

First that what it samples there is right, then how fast: rows of a Markdown table for RESULTS.md. A share is the least time
that the work can take, by this machine's own ceilings, over the time it took: of training the ledger's FLOPs, of
decode the bytes of weights, cached keys and values that a step has to read and write. What belongs together runs in a
process of its own: a kernel that fails takes its process along, and no more.
"""

import multiprocessing
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property, partial
from pathlib import Path
from random import Random

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.given import Endless, Given
from nanoschool.core import device
from nanoschool.core.batch import Batch
from nanoschool.core.config import ModelConfig
from nanoschool.core.engine import Session
from nanoschool.core.model import GPT
from nanoschool.core.policy import Policy
from nanoschool.core.row import Row
from nanoschool.core.sampling import EXACT, Sampling
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.lab.bench import Subject, measure
from nanoschool.lab.ceilings import Ceilings, ceilings, synchronise
from nanoschool.ledger import Ledger
from nanoschool.methods.base import Learner
from nanoschool.methods.grpo import GRPO
from nanoschool.types import Trajectory

HEAD = "| work | size | measured | of the ceiling | target |\n|---|---|---|---|---|"
CLOSE = {"float32": 1e-4, "bfloat16": 2e-2}  # of log-probabilities to the trainer's; 99 of 100 in bfloat16
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LONGEST, ALL = 200, 530  # seconds of a group of sections, and of all


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
    steps: tuple[str, ...] = ("graphed", "eager", "compiled")  # ways to make a step, the preset's first


class Bench:
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


Section = Callable[[Bench], None]

# -- is it right? ------------------------------------------------------------------------------------------------------


def kernel_is_right(bench: Bench) -> None:
    """Against a plain softmax in float32, at lengths from one to all, short of a span and over."""
    from nanoschool.core.live_attention import ALIGNED, attend

    worst = 0.0
    for H, G, K, room in ((4, 2, 32, 528), (3, 1, 24, 80), (26, 13, 32, 1040), (8, 1, 128, 112)):
        for dtype in (torch.float32, torch.bfloat16):
            at_B = torch.tensor([0, 1, 15, 16, room // 2, room - ALIGNED - 1], device=bench.plan.device)
            q_BHK = torch.randn(len(at_B), H, K, device=bench.plan.device)
            keys, values = torch.randn(2, len(at_B), G, room, K, device=bench.plan.device).to(dtype)
            out_BHK = attend(q_BHK, keys.transpose(2, 3).contiguous(), values, at_B)
            k_BHTK, v_BHTK = (x.float().repeat_interleave(H // G, 1) for x in (keys, values))
            later_B1T = torch.arange(room, device=at_B.device) > at_B[:, None, None]
            scores_BHT = torch.einsum("bhk,bhtk->bht", q_BHK, k_BHTK).masked_fill(later_B1T, -torch.inf)
            right_BHK = torch.einsum("bht,bhtk->bhk", scores_BHT.softmax(-1), v_BHTK)
            worst = max(worst, float((out_BHK - right_BHK).abs().max()))
    bench.row("attention kernel", "against a plain softmax", f"{worst:.1e} at worst", "", _met(worst, 1e-4))


def steps_are_right(bench: Bench, depth: int, sampling: Sampling, temperature: float) -> None:
    """What is recorded is what the trainer scores, and a row says alone what it says among others."""
    policy, keys, some = bench.policy(depth), range(12), (0, 7, 11)
    policy.sampling, bound = sampling, CLOSE[sampling.dtype]
    share = 1.0 if sampling.dtype == "float32" else 0.99
    about = f"{_size(policy)}, {sampling.dtype}, {sampling.steps}, temperature {temperature:g}"

    def tell(work: str, apart: Tensor) -> None:
        off = float(apart.quantile(share))
        measured = f"{off:.1e}, on average {float(apart.mean()):.1e}, n = {len(apart)}"
        bench.row(work, about, measured, "", _met(off, bound))

    together = _conversation(bench, policy, keys, temperature)
    batch = Batch.of(
        [
            Trajectory(
                row.tokens,
                row.mask,
                row.logprobs,
                [0.0] * len(row.tokens),
                temperature=temperature or 1.0,
            )
            for row in together
        ]
    )
    tell(
        "log-probabilities to the trainer's",
        (policy.logprobs(batch).cpu() - batch.logprobs)[batch.mask].abs(),
    )
    alone = [_conversation(bench, policy, range(key, key + 1), temperature)[0] for key in some]
    tell("a row alone and among 24", _apart(alone, [together[key] for key in some]))
    if sampling.steps != "eager":
        policy.sampling = Sampling(sampling.dtype)
        tell("to eager steps", _apart(together, _conversation(bench, policy, keys, temperature)))


def _conversation(bench: Bench, policy: Policy, keys: range, temperature: float) -> list[Row]:
    """Prompts of unequal length, two turns of unequal length, and a fork of each inside the first."""
    session = policy.open(seed=3, temperature=temperature)
    long = bench.plan.context // 6
    rows = [
        session.start(bench.prompt(1 + key * long // 12, key), key=key, max_tokens=9 + key) for key in keys
    ]
    for _ in range(4):
        session.step()
    twins = [session.fork(row, key=100 + row.key) for row in rows]
    _finish(session)
    for row in rows:
        session.extend(row, bench.prompt(3 + row.key, 50 + row.key), max_tokens=long)
    _finish(session)
    return rows + twins


def _apart(rows: list[Row], others: list[Row]) -> Tensor:
    """How far the log-probabilities of what both said are apart, row by row, up to where two draws part."""
    apart = []
    for one, other in zip(rows, others, strict=True):
        for at, sampled in enumerate(one.mask):
            if one.tokens[at] != other.tokens[at]:
                break
            apart += [abs(one.logprobs[at] - other.logprobs[at])] * sampled
    return torch.tensor(apart)


def _met(found: float, bound: float) -> str:
    if not found <= bound:
        raise AssertionError(f"{found:.1e} is above {bound:g}")
    return f"{bound:g}, met"


# -- how fast? ---------------------------------------------------------------------------------------------------------


def rates(bench: Bench) -> None:
    for dtype, flops in bench.limits.flops.items():
        bench.row("products of matrices", str(dtype).removeprefix("torch."), f"{flops / 1e12:,.1f} TFLOP/s")
    bench.row("copying", "read and written", f"{bench.limits.bandwidth / 1e12:,.2f} TB/s")


def training(bench: Bench, depth: int) -> None:
    plan, config = bench.plan, ModelConfig.from_depth(depth, bench.tokenizer.vocab_size, bench.plan.context)
    subject = Subject(f"depth {depth}", config, plan.trained, plan.context)
    found = measure("training", subject, bench.tokenizer, plan.device, bench.limits)
    about = f"{found.parameters / 1e6:.0f}M parameters, {plan.trained} rows of {plan.context}, "
    about += f"{str(found.dtype).removeprefix('torch.')}, AdamW"
    memory = f", {found.peak / 2**30:.1f} GiB" if found.peak else ""
    share = f"{found.share:.2f} ({found.binds})"
    bench.row("training", about, f"{found.rate:,.0f} tokens/s{memory}", share, _goal(found.share, 0.5))


def decode(bench: Bench, steps: str) -> None:
    """Rows that begin alike, each in its own cache, at half a context."""
    plan, policy = bench.plan, bench.policy(bench.plan.depths[0])
    policy.sampling = Sampling("bfloat16", steps)
    session = policy.open(seed=1)
    held = session.hold(bench.prompt(plan.prompt, 0), max_tokens=plan.said + 8)
    rows = [session.fork(held, key=key) for key in range(plan.rows)]
    first = bench.timed(session.step)
    for _ in range(3):
        session.step()
    before = rows[0].length
    seconds = bench.timed(lambda: [session.step() for _ in range(plan.said)])
    c, weights = policy.model.config, sum(p.numel() for p in policy.model.parameters())
    cached = 2 * c.layers * c.kv_heads * c.head_width  # numbers of one position
    # a step reads the positions before its token, and writes and reads that token's
    positions = sum(plan.rows * (before + step + 1) for step in range(plan.said))
    moved = 2 * (plan.said * weights + cached * positions)
    share = moved / bench.limits.bandwidth / seconds
    about = (
        f"{plan.rows} rows of {plan.prompt} and more, {plan.said} steps; {_size(policy)}, bfloat16, {steps}"
    )
    rate, each = plan.rows * plan.said / seconds, 1e3 * seconds / plan.said
    told = f"{rate:,.0f} tokens/s, {each:.2f} ms a step, {moved / plan.said / 1e9:.2f} GB; the first took {first:.1f} s"
    bench.row("decode", about, told, f"{share:.2f} (bytes)", _goal(share, 0.6))


def kernel(bench: Bench) -> None:
    """Attention alone, for choosing how much a program takes at once."""
    from nanoschool.core import live_attention

    plan, c = bench.plan, ModelConfig.from_depth(bench.plan.depths[0], bench.plan.vocab, bench.plan.context)
    room, wide = plan.context + live_attention.ALIGNED, (plan.rows, c.kv_heads)
    keys = torch.randn(*wide, c.head_width, room, device=plan.device, dtype=torch.bfloat16)
    values = torch.randn(*wide, room, c.head_width, device=plan.device, dtype=torch.bfloat16)
    q_BHK = torch.randn(plan.rows, c.heads, c.head_width, device=plan.device)
    at_B = torch.full((plan.rows,), plan.prompt - 1, device=plan.device)
    moved = 4 * plan.rows * plan.prompt * c.kv_heads * c.head_width
    chosen = live_attention.BLOCK, live_attention.WARPS
    for block in (32, 64, 128):
        for warps in (2, 4, 8):
            live_attention.BLOCK, live_attention.WARPS = block, warps
            work = partial(live_attention.attend, q_BHK, keys, values, at_B)
            work()
            seconds = statistics.median(bench.timed(work) for _ in range(20))
            about = f"blocks of {block}, {warps} warps{', as it is' if (block, warps) == chosen else ''}"
            share = moved / bench.limits.bandwidth / seconds
            bench.row("attention kernel alone", about, f"{1e6 * seconds:.0f} µs", f"{share:.2f} (bytes)")
    live_attention.BLOCK, live_attention.WARPS = chosen


@dataclass(frozen=True)
class Clocked(GRPO):
    def collect(self, learner: Learner) -> list[Trajectory]:
        start = time.perf_counter()
        sampled = super().collect(learner)
        learner.state["sampling"] = time.perf_counter() - start
        return sampled


def grpo(bench: Bench, steps: str) -> None:
    """The paper's step: a KL term to a reference, one update of AdamW, in float32."""
    plan, policy = bench.plan, bench.policy(bench.plan.depths[0])
    policy.sampling = Sampling("bfloat16", steps)
    rng = Random(0)
    prompts = ["".join(rng.choices(LETTERS, k=rng.randrange(8, 57))) for _ in range(plan.problems)]
    method = Clocked(plan.problems, plan.samples, max_tokens=plan.reply, lr=1e-6, kl=0.04, replay=0)
    learner = Learner(
        policy, Given(prompts, plan.reply), {}, {}, {}, seed=1, stage="bench", reference=policy.snapshot()
    )
    method.begin(learner)
    for goes in range(2):  # the first makes what is made once
        learner.step, before = goes, policy.ledger.total().sampled
        seconds = bench.timed(lambda: method.step(learner))
        tokens = policy.ledger.total().sampled - before
    sampling = learner.state["sampling"]
    about = f"{plan.problems} prompts x {plan.samples} x {plan.reply} tokens; {_size(policy)}, sampled in bfloat16, {steps}"
    split = (
        f"sampling {sampling:.2f} s ({tokens / sampling:,.0f} tokens/s), training {seconds - sampling:.2f} s"
    )
    bench.row("GRPO step", about, f"{seconds:.2f} s: {split}")


def _goal(share: float, goal: float) -> str:
    return f"{goal:g}, {'met' if share >= goal else 'not met'}"


def _finish(session: Session) -> None:
    while any(row.running for row in session.rows):
        session.step()


def _size(policy: Policy) -> str:
    c, count = policy.model.config, sum(p.numel() for p in policy.model.parameters())
    return f"{count / 1e6:.0f}M parameters, vocabulary {c.vocab}, context {c.context}"


# -- all of it ---------------------------------------------------------------------------------------------------------


def agreement(plan: Plan) -> Iterator[Section]:
    best = plan.steps[0]
    if best == "graphed":
        yield kernel_is_right
    yield partial(steps_are_right, depth=2, sampling=EXACT, temperature=1.0)
    for temperature in (1.0, 0.0):
        yield partial(steps_are_right, depth=2, sampling=Sampling(steps=best), temperature=temperature)
    for dtype in CLOSE:
        yield partial(steps_are_right, depth=plan.depths[0], sampling=Sampling(dtype, best), temperature=1.0)


def fitting(plan: Plan) -> Iterator[Section]:
    yield rates
    for depth in plan.depths:
        yield partial(training, depth=depth)


def sampling(plan: Plan) -> Iterator[Section]:
    yield partial(decode, steps=plan.steps[0])
    yield partial(grpo, steps=plan.steps[0])


def choices(plan: Plan) -> Iterator[Section]:
    """What might be done otherwise."""
    if "graphed" in plan.steps:
        yield kernel
    for steps in plan.steps[1:]:
        yield partial(decode, steps=steps)


GROUPS = (agreement, fitting, sampling, choices)


def run(group: Callable[[Plan], Iterator[Section]], plan: Plan, show: Callable[[str], None]) -> int:
    """Its sections, whatever becomes of one; how many failed."""
    bench, failed = Bench(plan, show), 0
    for section in group(plan):
        try:
            section(bench)
        except Exception:  # what else there is to know is worth more than a clean end
            failed += 1
            show(f"\n{section} failed:\n{traceback.format_exc()}")
    return failed


def apart(group: Callable[[Plan], Iterator[Section]]) -> None:
    device.choose("cuda")
    sys.exit(run(group, Plan(), partial(print, flush=True)))


def main() -> int:
    if "cuda" not in device.available():
        print("bench/gpu.py needs a CUDA GPU, and there is none on this machine", file=sys.stderr)
        return 2
    machine = device.choose("cuda")
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, CUDA {torch.version.cuda}"
    print(f"`python bench/gpu.py`; {date.today()}, {machine.processor}, {versions}\n\n{HEAD}", flush=True)
    start, failed = time.perf_counter(), []
    for group in GROUPS:
        process = multiprocessing.get_context("spawn").Process(target=apart, args=(group,))
        process.start()
        process.join(max(1.0, min(LONGEST, ALL - (time.perf_counter() - start))))
        if process.is_alive():
            process.kill()
            process.join()
        if process.exitcode:
            failed.append(group.__name__)
    print(f"\n{time.perf_counter() - start:.0f} s; failed or cut off: {', '.join(failed) or 'nothing'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
