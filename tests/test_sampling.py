"""How replies are sampled: in bfloat16, and by native steps; both give what the engine gives without them."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_engine import CLOSE, agree, finish, mixed, prompt, trajectory
from tiny import scored, tiny

from nanoschool.core.batch import Batch
from nanoschool.core.draw import draw
from nanoschool.core.model import GPT
from nanoschool.core.policy import Policy
from nanoschool.core.row import Row
from nanoschool.core.sampling import EXACT, Sampling
from nanoschool.settings import load_settings
from nanoschool.types import UserError

NARROW = 2e-2  # of log-probabilities in bfloat16, 99 of 100
EAGER, NATIVE = Sampling(steps="eager"), Sampling(steps="native")
compiles = pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
COMPILER = "from nanoschool.core import compiler; compiler.check('cpu')"
OPENED = "from tiny import tiny; tiny().open()"
NO_HEADERS = """#!/bin/sh
[ "$1" = --version ] && exec g++ --version
echo "fatal error: Python.h: No such file" >&2; exit 1
"""


def off(policy: Policy, rows: list[Row], temperature: float = 1.0, share: float = 1.0) -> float:
    """How far what was recorded is from what the trainer computes in float32, at most in such a share of tokens."""
    batch = Batch.of([trajectory(row) for row in rows])
    assert int(batch.mask.sum()) > 60
    apart = scored(policy, [trajectory(row) for row in rows], temperature) - batch.logprobs
    return float(apart[batch.mask].abs().quantile(share))


def some(policy: Policy, rows: int, temperature: float = 1.0) -> list[Row]:
    """So many rows of unequal length in one pool, that outgrow it together."""
    session = policy.open(seed=4, temperature=temperature)
    said = [session.start(prompt(8 + i % 5), key=i, max_tokens=40 if rows < 3 else 24) for i in range(rows)]
    finish(session)
    return said


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_in_bfloat16_recorded_log_probabilities_are_near_the_trainers_but_are_not_float32s(temperature):
    policy = tiny(depth=2)
    assert off(policy, mixed(policy, temperature=temperature), temperature) < CLOSE
    policy.sampling = Sampling("bfloat16")
    assert CLOSE < off(policy, mixed(policy, temperature=temperature), temperature, 0.99) < NARROW
    session = policy.open()
    session.start(prompt(5), key=0, max_tokens=3)
    session.step()
    assert {keys.dtype for pool in session._scheduler.cache.pools for keys in pool.keys} == {torch.bfloat16}


def agree_on_some(sampling: Sampling, rows: int, temperature: float) -> None:
    policy = tiny()
    policy.sampling = EAGER
    eager = some(policy, rows, temperature)
    policy.sampling = sampling
    for one, other in zip(some(policy, rows, temperature), eager, strict=True):
        agree(policy, 4, one, other)
        assert sum(one.mask) >= 20


def agree_whatever_rows_do(sampling: Sampling, shape: dict[str, Any]) -> None:
    """Rows in several pools, one of them alone in its own; groups, forks, turns, rows that come and go."""
    policy = tiny(depth=2)
    policy.model = GPT(replace(policy.model.config, **shape))
    policy.sampling = EAGER
    eager = mixed(policy)
    policy.sampling = sampling
    for one, other in zip(quick := mixed(policy), eager, strict=True):
        agree(policy, 5, one, other)
    assert off(policy, quick) < CLOSE
    policy.sampling = replace(sampling, dtype="bfloat16")
    assert off(policy, mixed(policy), share=0.99) < NARROW


@pytest.mark.parametrize("rows", [1, 6])
@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
def test_native_steps_of_a_lone_row_and_of_some_agree_with_eager_ones(rows, temperature):
    agree_on_some(NATIVE, rows, temperature)


LLAMA = {"qk_norm": False, "context": 90}
HEADS = [  # of widths that are no power of two, shared by one query head, by three; a hidden width off 32
    {"heads": 4, "kv_heads": 4, "head_width": 24},
    {"heads": 3, "kv_heads": 1, "head_width": 6, "hidden": 90},
    {"heads": 2, "kv_heads": 1, "head_width": 128},
]


@pytest.mark.parametrize("shape", [{}, {"tied": False}, LLAMA, *HEADS])
def test_native_steps_agree_with_eager_ones_whatever_rows_do(shape, monkeypatch):
    monkeypatch.setattr(NATIVE.parts("cpu")[1], "shortest", 32)
    agree_whatever_rows_do(NATIVE, shape)


@pytest.mark.parametrize("vocab", [1, 31, 64, 1023])
@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.7, 1e-3])
def test_a_native_draw_is_the_eager_one_and_never_of_what_has_no_probability(vocab, temperature):
    random = torch.Generator().manual_seed(vocab)
    logits_NV = 3 * torch.randn(500, vocab, generator=random)
    logits_NV[::2, vocab // 2 :] = -300.0  # of no probability
    logits_NV[::2, 0] = 0.0
    u_N = torch.rand(500, generator=random, dtype=torch.float64)
    u_N[:8] = torch.tensor([0.0, 1 - 2**-53, 0.5, 1 - 2**-52, 2**-53, 0.99999994, 1 - 2**-24, 1 - 2**-30])
    native = NATIVE.parts("cpu")[0](tiny().model, torch.float32)
    for one, other in zip(
        native._draw(logits_NV, temperature, u_N), draw(logits_NV, temperature, u_N), strict=True
    ):
        apart = (one - other).abs() > 1e-4 / (temperature or 1.0)
        assert int(apart.sum()) <= 3  # numbers that fall between two tokens but for rounding
    token_N, logprob_N, _ = native._draw(logits_NV, temperature, u_N)
    assert (logprob_N > -100).all() and (token_N < vocab).all()
    assert native._draw(logits_NV.fill_(torch.nan), temperature, u_N)[1].isnan().all()


def test_native_steps_of_a_model_that_is_not_in_float32_are_refused():
    policy = tiny()
    policy.model.bfloat16()
    with pytest.raises(UserError, match=r"native steps read weights in float32, not in torch\.bfloat16"):
        policy.open()


@compiles
@pytest.mark.parametrize(
    ("asked", "setting", "complaint"),
    [
        (COMPILER, "CXX=/bin/false", "needs a working C++ compiler (InvalidCxxCompiler: No working"),
        (COMPILER, "CXX=no_headers", "needs a working C++ compiler (CppCompileError"),
        (COMPILER, "TORCH_COMPILE_DISABLE=1", "unset it"),
        (COMPILER, "TORCHINDUCTOR_CACHE_DIR=/proc/nowhere", "set TORCHINDUCTOR_CACHE_DIR to a folder"),
        (OPENED, 'CC=gcc "', 'CC=gcc " names no compiler: No closing quotation'),
        (OPENED, "CC=/bin/true", "cannot be loaded"),
        (OPENED, "TMPDIR=/proc", "Cannot create temporary file"),
        ("from nanoschool.core import passes; passes.check()", "CC=/nowhere/cc", "there is no C compiler"),
        (OPENED, "CC=/nowhere/cc", "there is no C compiler ([Errno 2]"),
        (
            OPENED,
            "CC=no_headers",
            "cannot compile native.c (fatal error: Python.h: No such file): install gcc",
        ),
    ],
)
def test_where_nothing_can_be_compiled_that_is_told(asked, setting, complaint, tmp_path):
    (broken := tmp_path / "no_headers").write_text(NO_HEADERS)
    broken.chmod(0o755)
    name, value = setting.split("=")
    value = str(broken) if value == broken.name else value
    there = os.environ | {
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        name: value,
        "PYTHONPATH": str(Path(__file__).parent),
    }
    told = subprocess.run([sys.executable, "-c", asked], env=there, capture_output=True, text=True)
    assert told.returncode and "UserError" in told.stderr and complaint in told.stderr


def test_without_a_gpu_graphed_steps_are_refused():
    policy = tiny()
    policy.sampling = Sampling(steps="graphed")
    with pytest.raises(UserError, match=r"graphed steps need a CUDA GPU.*give --sampling\.steps auto"):
        policy.open()
    assert load_settings("gpu").sampling == Sampling("bfloat16", "graphed")


def test_a_run_samples_as_it_is_told_and_so_do_copies_of_its_policy(tmp_path):
    asked = ["--sampling.dtype", "bfloat16", "--sampling.steps", "eager"]
    assert load_settings("nano", asked).sampling == Sampling("bfloat16", "eager")
    assert load_settings("nano").sampling == EXACT
    with pytest.raises(UserError, match=r"sampling\.dtype"):
        load_settings("nano", ["--sampling.dtype", "float8"])
    (written := tmp_path / "mine.toml").write_text("[sampling]\nsteps = 'nativ'\n")
    with pytest.raises(UserError, match=r"steps: is 'nativ'; did you mean native\?"):
        load_settings(str(written))
    policy = tiny()
    policy.sampling = Sampling("bfloat16")
    assert policy.snapshot().sampling == policy.sampling
