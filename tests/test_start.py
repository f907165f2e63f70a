"""Start: what a training may begin with, a run's stage or a folder of weights, and what does not fit is named."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tiny import tokenizer

from nanoschool.core.chat import render
from nanoschool.core.config import ModelConfig
from nanoschool.core.model import GPT
from nanoschool.core.tokenizer_json import SPECIAL
from nanoschool.start import find_start, open_start
from nanoschool.types import Message, UserError

SHAPE = {"context": 64, "width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "head_width": 8, "hidden": 48}
ROWS = 430  # of the embedding: some more than the tokenizer has tokens


def foreign(root: Path, **change: Any) -> tuple[Path, GPT]:
    """A folder such as others publish: a tokenizer without our marks, an end token of its own, spare rows."""
    model = GPT(ModelConfig(vocab=ROWS, **(SHAPE | change)), seed=3)
    spec = copy.deepcopy(tokenizer().spec)
    pieces = len(spec["model"]["vocab"])
    end = {**spec["added_tokens"][0], "content": "<|eot|>", "id": pieces}
    root.mkdir(parents=True, exist_ok=True)
    write(root / "tokenizer.json", spec | {"added_tokens": [end]})
    write(root / "config.json", model.config.to_hf() | {"eos_token_id": [pieces]})
    safetensors.torch.save_file(model.state_dict(), root / "model.safetensors")
    return root, model


def write(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data))


@pytest.mark.parametrize("change", [{}, {"tied": False}, {"qk_norm": False, "tied": False}])
def test_a_folder_of_weights_gives_its_logits_and_learns_our_marks(tmp_path, change):
    folder, theirs = foreign(tmp_path / "theirs", **change)
    said: list[str] = []
    policy = open_start(str(folder), say=said.append)
    own = policy.tokenizer.special["<|eot|>"] + 1
    tokens = torch.randint(0, own, (2, 30), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, before = (m.logits(m(tokens)) for m in (policy.model, theirs))
    assert torch.equal(ours[..., :own], before[..., :own])
    assert policy.tokenizer.vocab_size == policy.model.config.vocab == own + len(SPECIAL)
    rows = policy.model.model.embed_tokens.weight
    assert torch.equal(rows[policy.tokenizer.end], rows[own - 1]), "replies end as theirs did"
    assert torch.allclose(rows[policy.tokenizer.user], rows[:own].mean(0))
    assert any("rows of its embedding are of no token" in line for line in said)
    assert any("its tokenizer has no <|bos|>, <|end|>" in line for line in said)
    asked, _ = render(policy.tokenizer, [Message("user", "3+4?")], generate=True)
    row = policy.open(seed=1).start(asked, key=0, max_tokens=5)
    assert row.running


def test_the_context_is_what_was_asked_for(tmp_path):
    folder, _ = foreign(tmp_path)
    assert open_start(str(folder), context=40, say=print).model.config.context == 40
    with pytest.raises(UserError, match="has a context of 64 tokens, not 65"):
        open_start(str(folder), context=65)


def test_weights_in_several_files(tmp_path):
    folder, _ = foreign(tmp_path / "one")
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, inside in parts.items():
        safetensors.torch.save_file({name: weights[name] for name in inside}, folder / file)
    index = {"weight_map": {name: file for file, inside in parts.items() for name in inside}}
    write(folder / "model.safetensors.index.json", index)
    whole, _ = foreign(tmp_path / "whole")
    parted, one = (open_start(str(f), say=lambda line: None).model.state_dict() for f in (folder, whole))
    assert all(torch.equal(parted[name], value) for name, value in one.items())


def _biased(weights, config, spec):
    weights["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(32)


def _headless(weights, config, spec):
    config["tie_word_embeddings"] = False


def _misshapen(weights, config, spec):
    config["intermediate_size"] = 40


def _of_another(weights, config, spec):
    spec["added_tokens"] += [
        {**spec["added_tokens"][0], "content": f"<{i}>", "id": ROWS + i} for i in range(9)
    ]


def _gappy(weights, config, spec):
    spec["added_tokens"] += [{**spec["added_tokens"][0], "content": "<far>", "id": ROWS - 1}]


@pytest.mark.parametrize(
    "spoil, complaint",
    [
        (_biased, r"no place for: model\.layers\.0\.self_attn\.q_proj\.bias"),
        (_headless, r"lacks the weights lm_head\.weight"),
        (_misshapen, r"mlp\.\w+_proj\.weight is \(.*\), must be \(.*40.*\) by its config.json"),
        (_of_another, r"ids below its last have no token|its tokenizer has 439 tokens, .* 430 rows"),
        (_gappy, r"tokenizer\.json: \d+ ids below its last have no token"),
    ],
)
def test_weights_that_do_not_fit_say_which(tmp_path, spoil, complaint):
    folder, _ = foreign(tmp_path)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    config, spec = (json.loads((folder / name).read_text()) for name in ("config.json", "tokenizer.json"))
    spoil(weights, config, spec)
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    write(folder / "config.json", config)
    write(folder / "tokenizer.json", spec)
    with pytest.raises(UserError, match=complaint):
        open_start(str(folder), say=lambda line: None)


@pytest.mark.parametrize(
    "file, data, complaint",
    [
        ("model.safetensors", None, "model.safetensors: no such file; the weights must be safetensors"),
        ("model.safetensors", b"oops", "model.safetensors: cannot be read"),
        ("tokenizer.json", None, "tokenizer.json: no such file"),
        ("config.json", b"{", "config.json: cannot be read as JSON"),
        ("config.json", b"[]", "config.json: is no JSON object"),
        ("config.json", b'{"model_type": "qwen2"}', "model_type is 'qwen2' .*biases.*only qwen3 and llama"),
    ],
)
def test_a_folder_that_is_broken_names_the_file(tmp_path, file, data, complaint):
    folder, _ = foreign(tmp_path)
    (folder / file).unlink() if data is None else (folder / file).write_bytes(data)
    with pytest.raises(UserError, match=complaint):
        open_start(str(folder), say=lambda line: None)


def test_a_stage_of_a_run(nano, tmp_path):
    for spec, stage in (
        ("nano", "rl"),
        ("nano:sft", "sft"),
        (f"{nano}:pretrain", "pretrain"),
        (str(nano), "rl"),
    ):
        origin = find_start(spec, nano.parent)
        assert origin.start.path == str(nano / "checkpoints" / stage)
        assert origin.start.converses == (stage != "pretrain") and origin.settings is not None
    policy = open_start("nano:sft", nano.parent)
    saved = safetensors.torch.load_file(nano / "checkpoints" / "sft" / "model.safetensors")
    assert all(torch.equal(policy.model.state_dict()[name], value) for name, value in saved.items())


@pytest.mark.parametrize(
    "spec, complaint",
    [
        ("", "--from: name a run"),
        ("nana", "no run 'nana' in .*did you mean nano"),
        ("nano:sfd", "has no stage 'sfd': did you mean sft"),
        ("nano:", None),
    ],
)
def test_a_start_that_is_not_there(nano, spec, complaint):
    if complaint is None:
        assert find_start(spec, nano.parent).start.path.endswith("rl")
        return
    with pytest.raises(UserError, match=complaint):
        find_start(spec, nano.parent)


def test_a_start_that_is_broken_is_refused(nano, tmp_path):
    run = Path(shutil.copytree(nano, tmp_path / "nano", symlinks=True))
    path = run / "checkpoints" / "rl" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"model\.safetensors.*name another start"):
        open_start("nano", tmp_path)
