"""Graphed steps without a GPU: Triton's kernel in its interpreter, and in place of a recording the same work done again.

TRITON_INTERPRET is read when triton is imported, so what stands here runs in a process of its own, which `agrees` starts.
"""

import os
import subprocess
import sys
from pathlib import Path

import torch
from test_engine import agree, converse, prompt
from test_sampling import EAGER, agree_on_some, agree_whatever_rows_do
from tiny import small, tiny

from nanoschool.core.sampling import Sampling
from nanoschool.lab import bench as lab

GRAPHED = Sampling(steps="graphed")


def agrees(asked: str) -> None:
    """Run a line with what stands here, under Triton's interpreter."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    there = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path}
    line = f"import interpreted; interpreted.mend(); interpreted.{asked}"
    told = subprocess.run([sys.executable, "-c", line], env=there, capture_output=True, text=True)
    assert not told.returncode, told.stderr


def mend() -> None:
    """Triton 3.6 makes a number of an array of one, which numpy 2.4 refuses."""
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patched(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patched


def kernel(heads: int, kv_heads: int, width: int, room: int, dtype: str) -> None:
    """Against a plain softmax; what lies past a row's own positions, rounded up, is not a number and not read."""
    from nanoschool.core.live_attention import ALIGNED, attend

    generator, kind = torch.Generator().manual_seed(0), getattr(torch, dtype)
    at_B = torch.tensor([0, 1, ALIGNED - 1, ALIGNED, room // 2, room - ALIGNED - 1])
    B, shape = len(at_B), (len(at_B) + 1, kv_heads, room, width)
    q_BHK = torch.randn(B, heads + 3, width, generator=generator)[:, :heads]
    k_SGTK, v_SGTK = (torch.randn(shape, generator=generator).to(kind) for _ in range(2))
    for row, at in enumerate(at_B.tolist()):
        past = (at + ALIGNED) // ALIGNED * ALIGNED
        k_SGTK[row, :, past:], v_SGTK[row, :, past:] = torch.nan, torch.nan
    k_SGTK[B], v_SGTK[B] = torch.nan, torch.nan
    out_BHK = attend(q_BHK, k_SGTK.transpose(2, 3).contiguous(), v_SGTK, at_B)
    for row, at in enumerate(at_B.tolist()):
        k_HTK, v_HTK = (
            x[row, :, : at + 1].float().repeat_interleave(heads // kv_heads, 0) for x in (k_SGTK, v_SGTK)
        )
        p_HT = torch.einsum("hk,htk->ht", q_BHK[row], k_HTK).softmax(-1)
        torch.testing.assert_close(
            out_BHK[row], torch.einsum("ht,htk->hk", p_HT, v_HTK), rtol=1e-5, atol=1e-5
        )


def rows(count: int, temperature: float) -> None:
    """A lone row, or some that outgrow their pool together."""
    from nanoschool.core.graphs import Step

    Step.shortest = 32
    agree_on_some(GRAPHED, count, temperature)


def whatever_rows_do(**shape) -> None:
    from nanoschool.core.graphs import Step

    Step.shortest = 32
    agree_whatever_rows_do(GRAPHED, shape)


def alone_and_in_a_batch() -> None:
    policy = tiny(depth=2)
    policy.sampling = GRAPHED
    together = converse(policy, list(range(6)))
    for key in (0, 3, 5):
        agree(policy, 3, together[key], converse(policy, [key])[key])


def loops() -> None:
    """One for each count of rows, rounded up; none is kept on a cache that has moved; none moves what it does not step."""
    policy = tiny()
    policy.sampling = GRAPHED
    session = policy.open(seed=1)
    first = [session.start(prompt(6), key=key, max_tokens=40) for key in range(3)]
    session.step()
    (one,) = session._fused.loops.values()
    session.close(first.pop())
    session.step()
    assert list(session._fused.loops.values()) == [one]
    assert one[0].at_P.tolist() == [7, 7, 0, 0, 0, 0, 0, 0]
    first += [session.start(prompt(6), key=10 + key, max_tokens=40) for key in range(7)]
    session.step()
    (other,) = session._fused.loops.values()
    assert other is not one and len(other[0].at_P) == 16 and not other[0].stale
    alone = policy.open(seed=1)
    alone.start(prompt(6), key=1, max_tokens=40)
    policy.sampling = EAGER
    exact = policy.open(seed=1)
    row = exact.start(prompt(6), key=1, max_tokens=40)
    for _ in range(3):
        exact.step()
    agree(policy, 1, first[1], row)


def bench() -> None:
    """What is measured of graphed steps on a GPU runs through."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from bench import agreement, gpu, rig, speed

    lines: list[str] = []
    lab.LEAST, speed.GOES = 0.01, 1
    plan = small(gpu, "graphed", "eager")
    agreement.kernel_is_right(rig.Rig(plan, lines.append))
    agreement.steps_are_right(rig.Rig(plan, lines.append), 2, Sampling("bfloat16", "graphed"), 1.0)
    assert not any(gpu.run(group, plan, lines.append) for group in (gpu.sampling, gpu.choices)), lines
    assert [line.split("|")[1].strip() for line in lines[:4]] == [
        "attention kernel",
        "log-probabilities to the trainer's",
        "a row alone and among 24",
        "to eager steps",
    ]
    assert sum("kernel alone" in line for line in lines) == 9
