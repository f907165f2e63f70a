"""bench: what it counts is what the ledger counts, and a share is of the ceiling that binds."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import small, tokenizer

from nanoschool.core.config import ModelConfig
from nanoschool.lab import bench
from nanoschool.lab.bench import WORKS, Subject, measure
from nanoschool.lab.ceilings import Ceilings, forget_peak, peak_memory

LITTLE = Subject("little", ModelConfig.from_depth(1, tokenizer().vocab_size, 96), rows=3, length=64)


def test_a_share_is_of_what_binds():
    limits = Ceilings({torch.float32: 1e9, torch.bfloat16: 4e9}, bandwidth=1e8)
    assert limits.share(torch.float32, flops=1e9, moved=1e7, seconds=2.0) == (0.5, "FLOPs")
    assert limits.share(torch.bfloat16, flops=1e9, moved=1e8, seconds=4.0) == (0.25, "bytes")


@pytest.mark.parametrize("work", WORKS)
def test_tokens_are_the_ledgers(work):
    policy = LITTLE.policy(tokenizer(), "cpu")
    goes, total = WORKS[work](policy, LITTLE), 0
    for _ in range(3):
        before = policy.ledger.total()
        tokens, moved = next(goes)
        spent = policy.ledger.total() - before
        assert tokens > 0 and moved > 4 * sum(p.numel() for p in policy.model.parameters())
        if work == "decode":  # the first go reads the prompts too
            assert tokens <= spent.sampled <= tokens + LITTLE.rows
        elif work == "prefill":
            assert tokens == spent.tokens
        else:
            assert tokens == spent.tokens == spent.trained + LITTLE.rows
        total += tokens


@pytest.mark.parametrize("work", WORKS)
def test_a_line_of_the_table(work, monkeypatch):
    monkeypatch.setattr(bench, "LEAST", 0.01)
    limits = Ceilings({torch.float32: 1e15, torch.bfloat16: 1e15}, bandwidth=1e15)
    found = measure(work, LITTLE, tokenizer(), "cpu", limits)
    assert found.rate > 0 and 0 < found.share < 1e-2 and found.subject == LITTLE
    assert found.share == pytest.approx(measure(work, LITTLE, tokenizer(), "cpu", limits).share, rel=20)


def test_what_is_measured_on_a_gpu_runs_through(monkeypatch):
    """At tiny sizes, on a CPU; tests/peers has graphed steps."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent)
    gpu, lines = importlib.import_module("bench.gpu"), []
    monkeypatch.setattr(bench, "LEAST", 0.01)
    for group in gpu.GROUPS:
        assert gpu.run(group, small(gpu, "eager"), lines.append) == 0, lines
    told = "".join(lines)
    assert "| 0.0001, met |" in told and "| 0.02, met |" in told and "GRPO step | 2 prompts x 2 x 6" in told
    assert all(line.count("|") == 6 for line in lines) and "Traceback" not in told


def test_what_fails_on_a_gpu_is_told_and_the_rest_is_measured(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent)
    gpu, lines = importlib.import_module("bench.gpu"), []
    monkeypatch.setattr(
        importlib.import_module("bench.agreement"), "CLOSE", {"float32": 0.0, "bfloat16": 2e-2}
    )
    assert gpu.run(gpu.agreement, small(gpu, "eager"), lines.append) == 4
    told = "".join(lines)
    assert told.count("is above 0") == 4 and told.count("Traceback") == 4 and "0.02, met" in told
    monkeypatch.setattr(gpu.device, "available", lambda: ["cpu"])
    assert gpu.main() == 2


def test_the_peak_is_of_now():
    if peak_memory("cpu") is None:
        pytest.skip("this system does not tell")
    forget_peak("cpu")
    before = peak_memory("cpu")
    held = torch.ones(2**26)
    assert peak_memory("cpu") >= before + held.numel() * 4 - 2**22
    del held
    forget_peak("cpu")
    assert peak_memory("cpu") < before + 2**26


def test_grown_subjects_differ_in_one_thing():
    middle = bench.sizes()[1]
    rows, context, layers = bench.grown()
    assert replace(rows, name=middle.name, rows=middle.rows) == middle
    assert context.rows * context.length == middle.rows * middle.length
    assert replace(layers.config, layers=middle.config.layers) == middle.config
