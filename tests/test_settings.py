"""Settings: presets load, flags win over them, TOML reads back to the same, and a mistake names the nearest right word."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nanoschool.core.config import ModelConfig
from nanoschool.core.model import GPT
from nanoschool.ledger import Budget
from nanoschool.methods.grpo import GRPO
from nanoschool.methods.rloo import RLOO
from nanoschool.settings import differences, load_run, load_settings, presets, to_toml
from nanoschool.types import UserError


@pytest.mark.parametrize("name", presets())
def test_every_preset_loads_and_reads_back(name, tmp_path):
    settings = load_settings(name, ["--runs-dir", str(tmp_path)])
    assert settings.name == settings.preset == name
    assert list(settings.stages) == ["pretrain", "sft", "rl", "reward", "rlhf"][: len(settings.stages)] != []
    assert {*settings.mix, *settings.taught, *settings.evaluation.worlds} <= settings.worlds.keys()
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.toml").write_text(to_toml(settings))
    assert load_run(tmp_path / name) == settings
    again = load_settings(str(tmp_path / name / "config.toml"), ["--runs-dir", str(tmp_path)])
    assert again == settings


def test_the_gpus_preset_is_a_model_of_120_million():
    shape = load_settings("gpu").model
    config = ModelConfig.from_depth(shape.depth, shape.vocab, shape.context)
    with torch.device("meta"):
        count = sum(p.numel() for p in GPT(config).parameters())
    assert 118e6 < count < 122e6
    assert Budget.parse(load_settings("gpu").stages["pretrain"].budget).limit == pytest.approx(
        20 * count, rel=0.02
    )


def test_flag_over_preset_over_default():
    default, preset = RLOO(), load_settings("laptop")
    flags = "--seed 2 --rl.method.lr 1e-4 --pretrain.budget=tokens=1e6 --name s2 --threads 1"
    flags += " --worlds.chain.long-share 0.5 --mix.rules 0.2 --text books"
    changed = load_settings("laptop", flags.split())
    assert preset.stages["rl"].method.samples == default.samples
    assert (changed.seed, changed.name, changed.preset, changed.text) == (2, "s2", "laptop", Path("books"))
    assert changed.stages["rl"].method == replace(preset.stages["rl"].method, lr=1e-4)
    assert Budget.parse(changed.stages["pretrain"].budget) == Budget("tokens", 1e6)
    assert changed.worlds["chain"] == replace(preset.worlds["chain"], long_share=0.5)
    assert changed.mix == preset.mix | {"rules": 0.2}
    assert changed.stages["sft"] == preset.stages["sft"]
    assert differences(preset, preset) == []
    assert {line.partition(":")[0] for line in differences(preset, changed)} == {
        "seed", "text", "rl.method.lr", "pretrain.budget", "worlds.chain.long_share", "mix.rules", "threads"
    }  # fmt: skip


def test_device_and_threads_left_open_are_as_the_run_has_them():
    asked = load_settings("laptop")
    assert differences(replace(asked, device="cpu", threads=2), asked) == []
    assert differences(asked, replace(asked, threads=2)) == ["threads: 0, now 2"]


def test_the_same_difference_in_both_directions():
    old = load_settings("nano")
    new = load_settings("nano", ["--stages", "pretrain", "sft"])
    assert "rl.use: rloo, now not set" in differences(old, new)
    assert "rl.use: not set, now rloo" in differences(new, old)


def test_another_method_brings_its_own_flags_and_keeps_what_both_know():
    preset = load_settings("laptop", ["--rl.method.lr", "3e-4"])
    changed = load_settings("laptop", ["--rl.use", "grpo", "--rl.method.lr", "3e-4"])
    assert isinstance(changed.stages["rl"].method, GRPO)
    assert changed.stages["rl"].method.lr == preset.stages["rl"].method.lr
    assert changed.stages["rl"].use == "grpo"


def test_a_world_named_by_a_flag_is_there():
    changed = load_settings("laptop", ["--rl.env", "steps", "--evaluation.worlds", "steps", "taste"])
    assert changed.stages["rl"].env == "steps"
    assert changed.worlds["steps"].name == "steps"
    assert changed.evaluation.worlds == ("steps", "taste")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--sead", "3"], "did you mean --seed?"),
        (["--rl.method.lrr=3"], "did you mean --rl.method.lr?"),
        (["--rl.use", "rlo"], "did you mean rloo?"),
        (["--stages", "sfo"], "did you mean sft?"),
        (["--seed", "one"], "--seed"),
        (["--seed"], "--seed"),
        (["extra"], "'extra' is one word too many"),
        (["--pretrain.budget", "0"], "pretrain: budget '0'"),
        (["--rl.budget", "rollouts=0"], "must be above 0"),
        (["--rl.budget", "rollout=5"], "unknown unit 'rollout'"),
        (["--model.depth", "0"], "model.depth is 0, must be at least 1"),
        (["--mix.rules", "-1"], "shares of mix"),
        (["--threads", "-1"], "threads is -1"),
        (["--rl.save", "0"], "rl.save is 0"),
        (["--name", "../x"], "name"),
        (["--name", "x" * 300], "name is longer than 200 bytes"),
        (["--seed", str(2**63)], "seed is 9223372036854775808, must be at most"),
        (["--threads", "9999999"], "threads is 9999999, must be at most 1024"),
        (["--text-share", "5"], "text_share is 5.0, must be above 0 and at most 1"),
        (["--text-share", "0"], "text_share is 0.0"),
        (["--text-share", "0.3"], "text_share is 0.3, but there is no text"),
        (["--rl.env", "chian"], "unknown world 'chian'"),
        (["--rl.env", ""], "practises in a world"),
    ],
)
def test_a_wrong_flag_gets_one_line(flags, said, capfd):
    with pytest.raises(UserError) as caught:
        load_settings("laptop", flags)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("depth = 1", "deptth = 1", "nano.toml model: unknown key 'deptth': did you mean depth?"),
        ("depth = 1", 'depth = "one"', "nano.toml model depth: is 'one', must be a whole number"),
        ("[model]", "[modle]", "unknown key 'modle': did you mean model?"),
        ("[sft]", "[sftt]", "stages has 'sft', but there is no such table: did you mean sftt?"),
        ('use = "rloo"', 'use = "rlooo"', "unknown method 'rlooo'"),
        ('env = "digit"', 'env = "chains"', "unknown world 'chains'"),
        ('budget = "rollouts=', 'budget = "rollout=', "rl: budget"),
        ('use = "rloo"', "use = 3", "stages has 'rl', but there is no such table"),
        ('stages = ["pretrain", "sft", "rl"]', 'stages = "pretrain"', "as a list"),
        ("seed = 1", "seed = ", "cannot be read as TOML"),
        ("seed = 1", "seed = 1\nversion = 99", "is of version 99"),
        ("[evaluation]", "[worlds.chain]\nlong_shar = 1\n[evaluation]", "did you mean long_share?"),
        ("[rl.method]", "[rl.method]\nlrr = 1", "did you mean lr?"),
        ("[evaluation]", "evaluation = 3\n[x]", "evaluation: is 3"),
    ],
)
def test_a_wrong_file_gets_one_line(old, new, said, tmp_path):
    text = presets()["nano"].read_text()
    assert old in text
    if new.startswith("evaluation = 3"):
        text, old, new = f"evaluation = 3\n{text.partition('[evaluation]')[0]}", "", ""
    path = tmp_path / "nano.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        load_settings(str(path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_preset_and_missing_file():
    with pytest.raises(UserError, match="did you mean laptop"):
        load_settings("lapto")
    with pytest.raises(UserError, match="no settings at"):
        load_settings("nowhere/mine.toml")


def test_help_of_a_preset_says_what_each_field_is():
    command = [sys.executable, "-m", "nanoschool", "run", "nano", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env={"COLUMNS": "200"}).stdout
    for words in (
        "--rl.method.lr",
        "attempts at each: the group",
        "steps between checkpoints",
        "--worlds.chain",
    ):
        assert words in said
