"""LoRA: an adapted model begins as it was, only its adapters are trained, billed and saved, and a run goes on to the bit."""

import json
import shutil
import signal
from pathlib import Path

import forked
import pytest
import safetensors.torch
import torch
from test_training import ARGS, LITTLE
from tiny import same, scored, tiny, trajectories, weights
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nanoschool import plan
from nanoschool.core import checkpoint
from nanoschool.core.batch import Batch
from nanoschool.core.config import MATRICES, Lora
from nanoschool.core.lora import adapted, build, is_adapter, merged
from nanoschool.core.optim import adamw
from nanoschool.saving import Progress, restore, write
from nanoschool.start import find_start, open_start
from nanoschool.training import training
from nanoschool.types import UserError

SPEC = Lora(rank=3, alpha=12.0)


def with_adapters(spec: Lora = SPEC, depth: int = 1):
    policy = tiny(depth)
    policy.model = adapted(policy.model, spec, seed=5)
    policy.optimizer = adamw(policy.model, 0.01, betas=(0.9, 0.99))
    return policy


def test_it_begins_as_it_was_and_trains_nothing_else():
    plain, policy = tiny(), with_adapters()
    rows = trajectories(policy, [20, 33, 9])
    assert torch.equal(scored(policy, rows), scored(plain, rows))
    before = weights(policy)
    for _ in range(3):
        policy.fit(rows)
    after = weights(policy)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {name for name in after if is_adapter(name)}
    trained = sum(p.numel() for p in policy.model.parameters() if p.requires_grad)
    shapes = [policy.model.get_submodule(f"model.layers.0.{name}").weight.shape for name in WHERE]
    assert trained == sum(SPEC.rank * (i + o) for o, i in shapes)
    assert (scored(policy, rows) - scored(plain, rows)).abs().max() > 1e-3


WHERE = [f"{'self_attn' if name[0] in 'qkvo' else 'mlp'}.{name}" for name in MATRICES]


def test_sampler_and_trainer_agree_and_merging_changes_nothing():
    policy = with_adapters()
    rows = trajectories(policy, [30, 25])
    policy.fit(rows)
    row = policy.open(seed=3).start(rows[0].tokens[:9], key=0, max_tokens=12)
    session = policy.open(seed=3)
    row = session.start(rows[0].tokens[:9], key=0, max_tokens=12)
    while row.running:
        session.step()
    said = Batch.of([trajectories(policy, [len(row.tokens)])[0]])
    said.tokens[0, :] = torch.tensor(row.tokens)
    said.mask[0, :] = torch.tensor(row.mask)
    recorded = torch.tensor(row.logprobs)[said.mask[0]]
    assert torch.allclose(policy.logprobs(said)[0][said.mask[0]], recorded, atol=1e-4)
    plain = tiny()
    plain.model = merged(policy.model)
    assert plain.model.config.lora is None
    assert torch.allclose(scored(plain, rows), scored(policy, rows), atol=1e-5)


@pytest.mark.parametrize("spec", [SPEC, Lora(8, 8.0, ("q_proj", "v_proj")), Lora(2, 1.0, ("down_proj",))])
def test_flops_are_what_torch_counts(spec):
    policy, S, B = with_adapters(spec, depth=2), 48, 3
    config, batch = policy.model.config, Batch.of(trajectories(policy, [S] * B))
    unseen = config.flops(0, B * (S * S - S * (S + 1) // 2), 0)
    for passes, run in ((1, policy.logprobs), (3, policy.fit)):
        before = policy.ledger.total().flops
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            run(batch)
        expected = counter.get_total_flops() - passes * unseen
        assert policy.ledger.total().flops - before == pytest.approx(expected, rel=0.02), run


def test_a_checkpoint_is_an_adapter_beside_its_base(tmp_path):
    plain, policy = tiny(), with_adapters(Lora(2, 5.0, ("o_proj", "v_proj")))
    write(plain, tmp_path, Progress("start"))
    checkpoint.point(tmp_path, "start", "start-000000")
    policy.fit(trajectories(policy, [20]))
    name = write(policy, tmp_path, Progress("train", step=1))
    folder = tmp_path / name
    assert not (folder / "model.safetensors").exists() and not (folder / "config.json").exists()
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 2, 5.0)
    assert config["target_modules"] == ["o_proj", "v_proj"]
    assert config["base_model_name_or_path"] == str(tmp_path / "start")
    inside = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    assert set(inside) == {
        f"base_model.model.model.layers.0.self_attn.{matrix}.lora_{side}.weight"
        for matrix in ("v_proj", "o_proj")
        for side in "AB"
    }
    width = policy.model.config.width
    assert inside["base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight"].shape == (2, width)
    assert inside["base_model.model.model.layers.0.self_attn.o_proj.lora_B.weight"].shape == (width, 2)
    saved = checkpoint.read(folder)
    again = tiny(seed=9)
    again.model = build(type(policy.model.config).from_hf(saved.config))
    restore(again, saved)
    assert again.model.config == policy.model.config and same(weights(again), weights(policy))


@pytest.mark.soak
def test_a_run_of_adapters_is_killed_goes_on_and_is_a_start(nano: Path, tmp_path: Path) -> None:
    args = [
        *ARGS,
        "--lora",
        "4",
        "--lora-matrices",
        "q_proj",
        "up_proj",
        "--method.lr",
        "0.01",
        "--name",
        "lora",
    ]
    for runs in ("whole", "killed"):
        shutil.copytree(nano, tmp_path / runs / "nano", symlinks=True)
    args[args.index("nano:sft")] = f"{tmp_path}/whole/nano:sft"
    counted = forked.command([*args, "--runs-dir", str(tmp_path / "whole")], forked.Trouble("/lora/"))
    assert counted.status == 0, counted.err
    killed = [*args, "--runs-dir", str(tmp_path / "killed")]
    trouble = forked.Trouble("/lora/", int(counted.touches * 0.7))
    assert forked.command(killed, trouble).status == -signal.SIGKILL
    assert forked.command(killed).status == 0
    whole, other = tmp_path / "whole" / "lora", tmp_path / "killed" / "lora"
    for name in ("metrics.jsonl", "ledger.json"):
        assert (
            "seconds" in (whole / name).read_text()
            or (whole / name).read_bytes() == (other / name).read_bytes()
        )
    files = [p / "checkpoints" / "train" / "adapter_model.safetensors" for p in (whole, other)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert forked.weights(whole, "start") == forked.weights(nano, "sft")
    moved = whole.rename(tmp_path / "killed" / "moved")
    asked = forked.command(["chat", "moved", "-p", "3+4=?", "--runs-dir", str(moved.parent)])
    assert asked.status == 0 and asked.out.strip(), asked.err
    settings = training(
        "rloo",
        ["--env", "digit", "--from", "moved", "--budget", "rollouts=8", "--runs-dir", str(moved.parent)],
    )
    assert settings.lora.rank == 0 and find_start("moved", moved.parent).model == settings.model
    policy = open_start("moved", moved.parent)
    assert policy.model.config.lora is None and all(p.requires_grad for p in policy.model.parameters())


@pytest.mark.parametrize(
    "flags, complaint",
    [
        ("--lora -1", "lora.rank is -1, must be at least 1"),
        ("--lora 4 --lora-alpha 0", "lora.alpha is 0.0, must be above 0 and finite"),
        ("--lora 4 --lora-matrices q_proj w_proj", "lora.matrices has w_proj; there are q_proj"),
    ],
)
def test_adapters_that_cannot_be_are_refused(nano: Path, flags: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        training("rloo", [*ARGS[2:], *flags.split(), "--runs-dir", str(nano.parent)])


def test_a_reward_model_trains_all_of_its_trunk(nano: Path) -> None:
    flags = [
        "--env",
        "taste",
        "--from",
        "nano",
        "--budget",
        "tokens=9",
        "--lora",
        "4",
        "--runs-dir",
        str(nano.parent),
    ]
    with pytest.raises(UserError, match="lora adapts a start, and reward_model must train it"):
        training("reward_model", [*flags, *LITTLE.split()])


def test_the_settings_name_the_same_matrices():
    assert plan.Lora().matrices == MATRICES
