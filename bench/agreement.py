"""agreement: what a GPU samples is what the trainer scores there, alone and in a batch, and what eager steps sample."""

import torch
from torch import Tensor

from bench.rig import Rig, size
from nanoschool.core.batch import Batch
from nanoschool.core.engine import Session
from nanoschool.core.policy import Policy
from nanoschool.core.row import Row
from nanoschool.core.sampling import Sampling
from nanoschool.types import Trajectory

CLOSE = {"float32": 1e-4, "bfloat16": 2e-2}  # of log-probabilities: all of them, and 99 of 100


def kernel_is_right(rig: Rig) -> None:
    """Against a plain softmax in float32, at lengths from one to all, short of a span and over."""
    from nanoschool.core.live_attention import ALIGNED, attend

    worst = 0.0
    for H, G, K, room in ((4, 2, 32, 2064), (3, 1, 24, 80), (26, 13, 32, 1040), (8, 1, 128, 112)):
        for dtype in (torch.float32, torch.bfloat16):
            at_B = torch.tensor([0, 1, 15, 16, room // 2, room - ALIGNED - 1], device=rig.plan.device)
            q_BHK = torch.randn(len(at_B), H, K, device=rig.plan.device)
            keys, values = torch.randn(2, len(at_B), G, room, K, device=rig.plan.device).to(dtype)
            out_BHK = attend(q_BHK, keys.transpose(2, 3).contiguous(), values, at_B)
            k_BHTK, v_BHTK = (x.float().repeat_interleave(H // G, 1) for x in (keys, values))
            later_B1T = torch.arange(room, device=at_B.device) > at_B[:, None, None]
            scores_BHT = torch.einsum("bhk,bhtk->bht", q_BHK, k_BHTK).masked_fill(later_B1T, -torch.inf)
            right_BHK = torch.einsum("bht,bhtk->bhk", scores_BHT.softmax(-1), v_BHTK)
            worst = max(worst, float((out_BHK - right_BHK).abs().max()))
    rig.row("attention kernel", "against a plain softmax", f"{worst:.1e} at worst", "", _met(worst, 1e-4))


def steps_are_right(rig: Rig, depth: int, sampling: Sampling, temperature: float) -> None:
    """What is recorded is what the trainer scores, and a row says alone what it says among others."""
    policy, keys, some = rig.policy(depth), range(12), (0, 7, 11)
    policy.sampling, bound = sampling, CLOSE[sampling.dtype]
    share = 1.0 if sampling.dtype == "float32" else 0.99
    about = f"{size(policy)}, {sampling.dtype}, {sampling.steps}, temperature {temperature:g}"

    def tell(work: str, apart: Tensor) -> None:
        off = float(apart.quantile(share))
        measured = f"{off:.1e}, on average {float(apart.mean()):.1e}, n = {len(apart)}"
        rig.row(work, about, measured, "", _met(off, bound))

    together = _conversation(rig, policy, keys, temperature)
    batch = Batch.of([_trajectory(row, temperature or 1.0) for row in together])
    off = policy.logprobs(batch).cpu() - batch.logprobs
    tell("log-probabilities to the trainer's", off[batch.mask].abs())
    alone = [_conversation(rig, policy, range(key, key + 1), temperature)[0] for key in some]
    tell("a row alone and among 24", _apart(alone, [together[key] for key in some]))
    if sampling.steps != "eager":
        policy.sampling = Sampling(sampling.dtype, "eager")
        tell("to eager steps", _apart(together, _conversation(rig, policy, keys, temperature)))


def _conversation(rig: Rig, policy: Policy, keys: range, temperature: float) -> list[Row]:
    """Prompts of unequal length, two turns of unequal length, and a fork of each inside the first."""
    session = policy.open(seed=3, temperature=temperature)
    long = rig.plan.context // 6
    rows = [session.start(rig.prompt(1 + key * long // 12, key), key=key, max_tokens=9 + key) for key in keys]
    for _ in range(4):
        session.step()
    twins = [session.fork(row, key=100 + row.key) for row in rows]
    _finish(session)
    for row in rows:
        session.extend(row, rig.prompt(3 + row.key, 50 + row.key), max_tokens=long)
    _finish(session)
    return rows + twins


def _trajectory(row: Row, temperature: float) -> Trajectory:
    weights = [0.0] * len(row.tokens)
    return Trajectory(row.tokens, row.mask, row.logprobs, weights, temperature=temperature)


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


def _finish(session: Session) -> None:
    while any(row.running for row in session.rows):
        session.step()
