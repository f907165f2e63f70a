"""Other people's weights: Llamas and Qwen3s that transformers builds at random give the same logits here."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.peers
transformers = pytest.importorskip("transformers", reason="transformers is absent; `make peers` installs it")

from nanoschool.core.tokenizer import Tokenizer  # noqa: E402
from nanoschool.start import open_start  # noqa: E402

TEXT = ["a=3; b=a+4; c=b*2; c=? 14", "Once upon a time there was a girl who had a dog and a cat."] * 40
SHAPE = {"vocab_size": 320, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3}
SHAPE |= {"num_attention_heads": 4, "max_position_embeddings": 128, "eos_token_id": 2, "rms_norm_eps": 1e-5}


def theirs(root: Path, family: str, **change: Any) -> tuple[Path, Any]:
    config = getattr(transformers, f"{family}Config")(**(SHAPE | change))
    torch.manual_seed(5)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for p in model.parameters():  # no gain at its starting value, and biases that are not 0
            p.add_(torch.randn(p.shape) * 0.1)
    model.save_pretrained(root)
    spec = Tokenizer.train(TEXT, 300).spec
    (root / "tokenizer.json").write_text(json.dumps(spec | {"added_tokens": []}))
    return root, model


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(
    "family, more",
    [("Llama", {}), ("Llama", {"head_dim": 8}), ("Qwen3", {"head_dim": 16}), ("Qwen3", {"head_dim": 12})],
)
def test_the_logits_agree(family: str, more: dict, tied: bool, kv_heads: int, tmp_path: Path) -> None:
    change = {"tie_word_embeddings": tied, "num_key_value_heads": kv_heads, "rope_theta": 5e4}
    folder, model = theirs(tmp_path, family, **change, **more)
    policy = open_start(str(folder), say=lambda line: None)
    own = policy.tokenizer.special["<|bos|>"]
    tokens = torch.randint(0, own, (3, 100), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        ours, expected = policy.model.logits(policy.model(tokens))[..., :own], model(tokens).logits[..., :own]
    assert expected.std() > 0.1
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_half_precision_weights_are_read(tmp_path: Path) -> None:
    folder, model = theirs(tmp_path, "Llama")
    model.to(torch.bfloat16).save_pretrained(folder)
    weight = open_start(str(folder), say=lambda line: None).model.model.layers[0].mlp.up_proj.weight
    assert torch.equal(weight, model.model.layers[0].mlp.up_proj.weight.float())


@pytest.mark.parametrize(
    "family, change, complaint",
    [
        ("Qwen2", {}, "model_type is 'qwen2' .its q, k and v have biases."),
        ("Llama", {"attention_bias": True}, "attention_bias = True is not supported"),
        ("Llama", {"mlp_bias": True}, "mlp_bias = True is not supported"),
        ("Llama", {"hidden_act": "gelu"}, "hidden_act = 'gelu' is not supported"),
    ],
)
def test_what_we_do_not_compute_is_refused(family: str, change: dict, complaint: str, tmp_path: Path) -> None:
    folder, _ = theirs(tmp_path, family, **change)
    with pytest.raises(Exception, match=complaint):
        open_start(str(folder))


def test_what_goes_on_as_a_llama_is_one(tmp_path: Path) -> None:
    """Our checkpoint of a Llama opens in transformers, marks and all."""
    from nanoschool.saving import Progress, write

    folder, _ = theirs(tmp_path / "theirs", "Llama", tie_word_embeddings=False)
    policy = open_start(str(folder), say=lambda line: None)
    name = write(policy, tmp_path / "ours", Progress("start"))
    again, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours" / name, dtype=torch.float32, output_loading_info=True
    )
    assert type(again).__name__ == "LlamaForCausalLM"
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokens = torch.randint(0, policy.model.config.vocab, (1, 50))
    with torch.no_grad():
        torch.testing.assert_close(
            again(tokens).logits, policy.model.logits(policy.model(tokens)), atol=1e-5, rtol=1e-5
        )
