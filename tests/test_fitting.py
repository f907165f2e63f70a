"""Compiled passes of training: the same numbers as eager ones but for rounding, and only where they repay their time."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from tiny import Recorder, tiny, trajectories, weights
from torch._dynamo.utils import counters
from torch.utils import _triton

from nanoschool.cli import main
from nanoschool.core import compiler, fitting, optim, recompute
from nanoschool.core.batch import Batch
from nanoschool.core.config import Lora, ModelConfig
from nanoschool.core.critic import Critic
from nanoschool.core.lora import adapted
from nanoschool.core.model import GPT
from nanoschool.core.optim import adamw, muon_adamw
from nanoschool.core.policy import Policy
from nanoschool.core.reward_model import RewardModel
from nanoschool.settings import load_settings
from nanoschool.types import UserError

compiles = pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
LENGTHS = ([30, 7, 7, 12, 25, 3, 40, 2], [9] * 5, [40], [2], [90, 20])  # of the rows of five batches


def policy(compiled: bool, **shape: bool) -> Policy:
    made = tiny(depth=2)
    made.model = GPT(replace(made.model.config, **shape))
    made.model.compiled = compiled
    return made


def gradients(made: Policy, dtype: torch.dtype = torch.float32) -> list[dict[str, torch.Tensor]]:
    """Of every batch."""
    made.optimizer = recorder = Trained(made.model)
    for lengths in LENGTHS:
        made.fit(Batch.of(trajectories(made, lengths)), dtype=dtype)
    return recorder.gradients


class Trained(Recorder):
    """What has no gradient, such as weights beside their adapters, has one of 0."""

    def step(self, scale: float) -> float:
        for p in self.model.parameters():
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        return super().step(scale)


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest distance of a tensor from its like, over its length."""
    assert one.keys() == other.keys()
    return max(float((one[n] - other[n]).norm() / other[n].norm().clamp(min=1e-12)) for n in one)


@compiles
@pytest.mark.identities
@pytest.mark.parametrize(
    ("shape", "dtype", "close"),
    [
        ({}, torch.float32, 1e-5),
        ({}, torch.bfloat16, 3e-2),
        pytest.param(
            {"tied": False, "qk_norm": False}, torch.float32, 1e-5, marks=pytest.mark.soak
        ),  # a Llama
    ],
)
def test_compiled_gradients_are_eager_ones(shape, dtype, close):
    both = zip(*(gradients(policy(compiled, **shape), dtype) for compiled in (True, False)), strict=True)
    for compiled, eager in both:
        assert apart(compiled, eager) < close


@compiles
@pytest.mark.soak
@pytest.mark.identities
def test_compiled_passes_go_with_adapters_and_with_what_is_computed_again(monkeypatch):
    monkeypatch.setattr(recompute, "memory", lambda device: 1.0)
    found = []
    for compiled in (True, False):
        made = policy(compiled)
        adapted(made.model, Lora(4, 8.0))
        with torch.no_grad():
            for name, p in made.model.named_parameters():
                if "lora_B" in name:
                    p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(0)) * 0.1)
        found.append(gradients(made))
    for compiled, eager in zip(*found, strict=True):
        assert apart(compiled, eager) < 1e-5
        assert any(g.any() for name, g in eager.items() if "lora_A" in name)


@compiles
@pytest.mark.parametrize("way", ["muon", "adamw"])
def test_compiled_steps_end_where_eager_ones_do(way, monkeypatch):
    monkeypatch.setattr(optim, "compute_dtype", lambda device: torch.float32)  # bfloat16 makes much of little
    ends = []
    for compiled in (True, False):
        made = policy(compiled)
        given = {"muon": (0.02, 0.03, 0.003), "adamw": (1e-3, (0.9, 0.95))}[way]
        made.optimizer = {"muon": muon_adamw, "adamw": adamw}[way](made.model, *given)
        losses = [made.fit(trajectories(made, lengths, seed=3))["loss"] for lengths in LENGTHS]
        ends.append((losses, weights(made)))
    (losses, compiled), (expected, eager) = ends
    assert losses == pytest.approx(expected, abs=1e-4) and apart(compiled, eager) < 1e-3


@compiles
def test_rows_of_any_lengths_and_layers_of_any_number_share_their_graphs():
    """Two of a layer, and two of a chunk of logits; and as many of a lone token, which is no variable."""
    torch._dynamo.reset()
    before = counters["stats"]["unique_graphs"]
    made = policy(compiled=True)
    made.optimizer = Trained(made.model)
    for lengths in ([8, 5], *(lengths for lengths in LENGTHS if lengths != [2]), [33, 9, 9]):
        made.fit(Batch.of(trajectories(made, lengths)))
    assert counters["stats"]["unique_graphs"] - before == 4


def test_copies_of_a_compiled_model_are_compiled_and_its_weights_keep_their_names():
    made = policy(compiled=True)
    copies = (
        made.snapshot().model,
        Critic(made, 1e-3, 0.99).body,
        RewardModel(made.model, made.tokenizer, made.ledger).members[0].trunk[0],
    )
    assert all(model.compiled for model in copies)
    assert made.model.state_dict().keys() == policy(compiled=False).model.state_dict().keys()


def test_who_trains_long_on_a_gpu_compiles_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(fitting, "lacking", lambda device: "")
    shape, long = ModelConfig.from_depth(13, 24_576, 1024), ["tokens=2.4e9", "rollouts=200000", "bits=5"]
    assert fitting.choose("auto", "cuda", long, shape) == (True, "a run of 1.9e+18 FLOPs repays compiling")
    assert fitting.choose("auto", "cuda", ["seconds=600"], shape)[0]
    assert not fitting.choose("auto", "cpu", long, shape)[0]
    for short in (["tokens=1e6"], ["flops=1e15"], ["seconds=100"], ["bits=1e9"]):
        compiled, why = fitting.choose("auto", "cuda", short, shape)
        assert not compiled and "too short" in why
    for device in ("cpu", "cuda"):
        assert fitting.choose("compiled", device, ["tokens=1"], shape) == (True, "as asked for")
        assert fitting.choose("eager", device, long, shape) == (False, "as asked for")
    monkeypatch.setattr(fitting, "lacking", lambda device: "there is no compiler")
    assert fitting.choose("auto", "cuda", long, shape) == (False, "there is no compiler")
    with pytest.raises(UserError, match="no compiler"):
        fitting.choose("compiled", "cuda", long, shape)


def test_where_nothing_can_be_compiled_compiled_training_is_refused(tmp_path):
    asked = [
        sys.executable,
        "-m",
        "nanoschool",
        "run",
        "nano",
        "--fitting",
        "compiled",
        "--runs-dir",
        str(tmp_path),
    ]
    there = os.environ | {"TORCH_COMPILE_DISABLE": "1"}
    told = subprocess.run(asked, env=there, capture_output=True, text=True)
    assert told.returncode == 2 and told.stderr.count("\n") == 1
    assert "torch.compile is switched off by TORCH_COMPILE_DISABLE: unset it" in told.stderr


def test_on_a_gpu_it_takes_triton_and_on_others_it_is_not_tried(monkeypatch):
    monkeypatch.setattr(compiler, "check", lambda device: None)
    monkeypatch.setattr(_triton, "has_triton", lambda: False)
    lacking = fitting.lacking.__wrapped__
    assert lacking("cpu") == "" and "needs Triton" in lacking("cuda") and "not tried on mps" in lacking("mps")


def test_it_is_a_setting_of_a_run(tmp_path):
    assert load_settings("nano").fitting == "auto"
    assert load_settings("nano", ["--fitting", "compiled"]).fitting == "compiled"
    with pytest.raises(UserError, match="--fitting"):
        load_settings("nano", ["--fitting", "fast"])
    (written := tmp_path / "mine.toml").write_text("fitting = 'compile'\n")
    with pytest.raises(UserError, match=r"fitting: is 'compile'; did you mean compiled\?"):
        load_settings(str(written))


@pytest.mark.parametrize("command", ["run laptop", "train rloo"])
def test_what_it_says_of_itself_stands_in_help_once(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")  # one column of boxes
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    said = " ".join(re.sub(r"[│╭╰─╮╯]+", " ", capsys.readouterr().out).split())
    assert said.count("are passes of training compiled") == 1 and "How replies are sampled." in said
