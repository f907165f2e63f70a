"""speed: how fast one GPU trains and samples, and how near that is to what it can do.

A share is the least time that the work can take, by this machine's own ceilings, over the time it took: of training the
ledger's FLOPs, of decode the bytes of weights, cached keys and values that a step has to read and write.
"""

import time
from dataclasses import dataclass
from random import Random

import torch

from bench.given import Given
from bench.rig import LETTERS, Rig, size
from nanoschool.core.config import ModelConfig
from nanoschool.core.sampling import Sampling
from nanoschool.lab.bench import Subject, measure
from nanoschool.methods.base import Learner
from nanoschool.methods.grpo import GRPO
from nanoschool.types import Trajectory

GOES = 50  # of a kernel


def rates(rig: Rig) -> None:
    for dtype, flops in rig.limits.flops.items():
        rig.row("products of matrices", str(dtype).removeprefix("torch."), f"{flops / 1e12:,.1f} TFLOP/s")
    rig.row("copying", "read and written", f"{rig.limits.bandwidth / 1e12:,.2f} TB/s")


def training(rig: Rig, depth: int) -> None:
    plan, config = rig.plan, ModelConfig.from_depth(depth, rig.tokenizer.vocab_size, rig.plan.context)
    subject = Subject(f"depth {depth}", config, plan.trained, plan.context)
    found = measure("training", subject, rig.tokenizer, plan.device, rig.limits)
    about = f"{found.parameters / 1e6:.0f}M parameters, {plan.trained} rows of {plan.context}, "
    about += f"{str(found.dtype).removeprefix('torch.')}, AdamW"
    memory = f", {found.peak / 2**30:.1f} GiB" if found.peak else ""
    share = f"{found.share:.2f} ({found.binds})"
    rig.row("training", about, f"{found.rate:,.0f} tokens/s{memory}", share, _goal(found.share, 0.5))


def decode(rig: Rig, steps: str) -> None:
    """Rows that begin alike, each in its own cache, at half a context."""
    plan, policy = rig.plan, rig.policy(rig.plan.depths[0])
    policy.sampling = Sampling("bfloat16", steps)
    session = policy.open(seed=1)
    held = session.hold(rig.prompt(plan.prompt, 0), max_tokens=plan.said + 8)
    rows = [session.fork(held, key=key) for key in range(plan.rows)]
    first = rig.timed(session.step)
    for _ in range(3):
        session.step()
    before = rows[0].length
    seconds = rig.timed(lambda: [session.step() for _ in range(plan.said)])
    c, weights = policy.model.config, sum(p.numel() for p in policy.model.parameters())
    cached = 2 * c.layers * c.kv_heads * c.head_width  # numbers of one position
    # a step reads the positions before its token, and writes and reads that token's
    positions = sum(plan.rows * (before + step + 1) for step in range(plan.said))
    moved = 2 * (plan.said * weights + cached * positions)
    share = moved / rig.limits.bandwidth / seconds
    about = (
        f"{plan.rows} rows of {plan.prompt} and more, {plan.said} steps; {size(policy)}, bfloat16, {steps}"
    )
    rate, each = plan.rows * plan.said / seconds, 1e3 * seconds / plan.said
    told = f"{rate:,.0f} tokens/s, {each:.2f} ms a step, {moved / plan.said / 1e9:.2f} GB; the first took {first:.1f} s"
    rig.row("decode", about, told, f"{share:.2f} (bytes)", _goal(share, 0.6))


def kernel(rig: Rig) -> None:
    """Attention alone, for choosing how much a program takes at once."""
    from nanoschool.core import live_attention

    plan, c = rig.plan, ModelConfig.from_depth(rig.plan.depths[0], rig.plan.vocab, rig.plan.context)
    room, wide = plan.context + live_attention.ALIGNED, (plan.rows, c.kv_heads)
    keys = torch.randn(*wide, c.head_width, room, device=plan.device, dtype=torch.bfloat16)
    values = torch.randn(*wide, room, c.head_width, device=plan.device, dtype=torch.bfloat16)
    q_BHK = torch.randn(plan.rows, c.heads, c.head_width, device=plan.device)
    at_B = torch.full((plan.rows,), plan.prompt - 1, device=plan.device)
    moved = 4 * plan.rows * plan.prompt * c.kv_heads * c.head_width

    def goes() -> None:
        for _ in range(GOES):
            live_attention.attend(q_BHK, keys, values, at_B)

    chosen = live_attention.BLOCK, live_attention.WARPS
    for block in (16, 32, 64):
        for warps in (1, 2, 4):
            live_attention.BLOCK, live_attention.WARPS = block, warps
            goes()
            seconds = rig.timed(goes) / GOES
            about = f"blocks of {block}, warps: {warps}{', as it is' if (block, warps) == chosen else ''}"
            share = moved / rig.limits.bandwidth / seconds
            rig.row("attention kernel alone", about, f"{1e6 * seconds:.0f} µs", f"{share:.2f} (bytes)")
    live_attention.BLOCK, live_attention.WARPS = chosen


@dataclass(frozen=True)
class Clocked(GRPO):
    def collect(self, learner: Learner) -> list[Trajectory]:
        start = time.perf_counter()
        sampled = super().collect(learner)
        learner.state["sampling"] = time.perf_counter() - start
        return sampled


def grpo(rig: Rig, steps: str) -> None:
    """The paper's step: a KL term to a reference, one update of AdamW, in float32."""
    plan, policy = rig.plan, rig.policy(rig.plan.depths[0])
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
        seconds = rig.timed(lambda: method.step(learner))
        tokens = policy.ledger.total().sampled - before
    sampling = learner.state["sampling"]
    about = f"{plan.problems} prompts x {plan.samples} x {plan.reply} tokens; {size(policy)}, sampled in bfloat16, {steps}"
    split = (
        f"sampling {sampling:.2f} s ({tokens / sampling:,.0f} tokens/s), training {seconds - sampling:.2f} s"
    )
    rig.row("GRPO step", about, f"{seconds:.2f} s: {split}")


def _goal(share: float, goal: float) -> str:
    return f"{goal:g}, {'met' if share >= goal else 'not met'}"
