"""The model: its shape, its FLOPs against torch's counter, Hugging Face's config, and what attention may see."""

import json
from dataclasses import replace

import pytest
import torch
from tiny import Recorder, tiny, trajectories
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nanoschool.core.batch import Batch
from nanoschool.core.config import ModelConfig
from nanoschool.core.model import GPT
from nanoschool.core.policy import Policy
from nanoschool.ledger import Ledger
from nanoschool.types import UserError

SHAPES = [
    ModelConfig(vocab=300, context=64, width=64, layers=2, heads=4, kv_heads=4, head_width=16, hidden=96),
    ModelConfig(
        300, 64, width=96, layers=2, heads=6, kv_heads=2, head_width=32, hidden=160
    ),  # grouped queries
    ModelConfig(300, 64, width=64, layers=1, heads=4, kv_heads=1, head_width=8, hidden=64, tied=False),
]


def policy_of(config: ModelConfig) -> Policy:
    policy = Policy(GPT(config), tiny().tokenizer, Ledger())
    policy.optimizer = Recorder(policy.model)
    return policy


@pytest.mark.parametrize("config", SHAPES)
def test_flops_are_what_torch_counts(config):
    """Under the math kernel torch's counter sees attention, and counts all S x S pairs; live are S(S + 1)/2 of them.

    So the attention of its count is scaled by (S + 1)/(2S) before it is compared. Rows of one length, as neither
    padding nor its attention is charged.
    """
    policy, S, B = policy_of(config), 48, 3
    batch = Batch.of(trajectories(policy, [S] * B))
    whole, live = config.flops(0, B * S * S, 0), config.flops(0, B * S * (S + 1) // 2, 0)
    assert live == pytest.approx(whole * (S + 1) / (2 * S))
    for passes, run in ((1, policy.logprobs), (3, policy.fit)):
        before = policy.ledger.total()
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            run(batch)
        spent = policy.ledger.total() - before
        expected = counter.get_total_flops() - passes * (whole - live)
        assert spent.flops == pytest.approx(expected, rel=0.02), run
        assert spent.tokens == B * S and spent.trained == (int(batch.mask.sum()) if passes == 3 else 0)


def test_the_whole_distribution_is_charged_for_all_its_logits():
    policy = policy_of(SHAPES[1])
    batch = Batch.of(trajectories(policy, [40, 40]))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        policy.distribution(batch, top_k=3)
    c = policy.model.config
    hidden = c.flops(0, 2 * (40 * 40 - 40 * 41 // 2), 0)
    assert policy.ledger.total().flops == pytest.approx(counter.get_total_flops() - hidden, rel=0.02)


def test_padding_is_not_charged():
    policy = policy_of(SHAPES[0])
    rows = trajectories(policy, [10, 60])
    policy.logprobs(Batch.of(rows))
    together = policy.ledger.total()
    policy.logprobs(Batch.of(rows[:1]))
    policy.logprobs(Batch.of(rows[1:]))
    apart = policy.ledger.total() - together
    assert apart == together and together.tokens == 70


@pytest.mark.parametrize(
    "config", [*SHAPES, replace(SHAPES[1], rope_theta=1e6, eps=1e-5), replace(SHAPES[0], qk_norm=False)]
)
def test_the_config_survives_hugging_face(config):
    written = json.loads(json.dumps(config.to_hf()))
    assert ModelConfig.from_hf(written) == config
    old = {key: value for key, value in written.items() if key != "rope_parameters"}  # transformers 4
    assert ModelConfig.from_hf(old) == config


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2'; only qwen3 and llama are read"),
        ({"model_type": "qwen2"}, r"'qwen2' \(its q, k and v have biases\)"),
        ({"mlp_bias": True}, "mlp_bias = True is not supported"),
        ({"hidden_size": None}, "hidden_size is None, must be a whole number above 0"),
        ({"attention_bias": True}, "attention_bias = True is not supported"),
        ({"use_sliding_window": True}, "use_sliding_window = True is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu' is not supported"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "scaled rotary positions"),
        ({"rope_scaling": {"type": "linear"}}, "scaled rotary positions"),
    ],
)
def test_what_our_forward_pass_does_not_compute_is_refused(change, complaint):
    with pytest.raises(UserError, match=complaint):
        ModelConfig.from_hf(SHAPES[0].to_hf() | change)


def test_the_depth_dial():
    for depth in (1, 2, 3, 6):
        c = ModelConfig.from_depth(depth, vocab=1024, context=192)
        assert c.layers == depth and c.width == 64 * depth == c.heads * c.head_width
        assert c.hidden % 32 == 0 and 0 <= c.hidden - 8 * c.width / 3 < 32 and c.heads % c.kv_heads == 0
    with pytest.raises(UserError, match="depth 0"):
        ModelConfig.from_depth(0, 100, 100)
    with pytest.raises(UserError, match="multiple of kv_heads"):
        replace(SHAPES[0], kv_heads=3)
    with pytest.raises(UserError, match="must be even"):
        replace(SHAPES[0], head_width=7)


@pytest.mark.parametrize("config", SHAPES)
def test_a_token_sees_what_stands_before_it_and_no_more(config):
    model = GPT(config, seed=1)
    tokens = torch.randint(300, (1, 30), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[0, 17] = (changed[0, 17] + 1) % 300
    with torch.no_grad():
        off = (model(tokens) - model(changed)).abs().amax(-1)[0]
        shifted = model(tokens[:, :20], torch.arange(5, 25)[None]) - model(tokens[:, :20])
    assert not off[:17].any() and (off[17:] > 0).all()
    assert shifted.abs().max() < 1e-5, "rotary positions are relative: all moved by five changes nothing"


def test_weights_follow_from_the_seed():
    one, same, other = GPT(SHAPES[1], 1), GPT(SHAPES[1], 1), GPT(SHAPES[1], 2)
    for (name, a), b, c in zip(one.named_parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
        assert a.ndim == 1 or not torch.equal(a, c), name


@pytest.mark.parametrize("config", SHAPES)
def test_a_new_model_is_near_chance(config):
    model = GPT(config, seed=0)
    tokens = torch.randint(300, (8, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model.logits(model(tokens))
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, 300), tokens[:, 1:].reshape(-1))
    assert abs(loss.item() - torch.tensor(300.0).log().item()) < 0.25


def test_tied_weights_are_one_matrix():
    tied, untied = GPT(SHAPES[0]), GPT(SHAPES[2])
    assert tied.head is tied.model.embed_tokens.weight and "lm_head.weight" not in tied.state_dict()
    assert untied.head is untied.lm_head.weight and "lm_head.weight" in untied.state_dict()
