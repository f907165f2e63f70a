"""The policy: fitting is the same however it is cut up, a NaN touches nothing, a snapshot stays as it was."""

from dataclasses import replace

import pytest
import torch
from tiny import Recorder, same, tiny, tokenizer, trajectories, weights

from nanoschool.core import recompute
from nanoschool.core.batch import Batch, Totals, weighted_nll
from nanoschool.core.optim import adamw
from nanoschool.core.packed import hidden
from nanoschool.core.policy import Diverged, Loss, Policy
from nanoschool.methods.grpo import GRPO
from nanoschool.types import Trajectory

LENGTHS = [30, 7, 12, 25, 3, 18, 12, 40]


def experience(policy: Policy) -> Batch:
    """What GRPO's loss wants: the sampler's log-probabilities, a reference's, and which rows were sampled."""
    rows = trajectories(policy, LENGTHS)
    for i, row in enumerate(rows):
        row.extra["sampled"] = [float(i % 4 != 3)] * len(row.tokens)
    batch = Batch.of(rows)
    # Near enough that some ratios are clipped and others are not, whatever the sign of the advantage.
    noise = torch.Generator().manual_seed(0)
    near = policy.logprobs(batch) + 0.3 * torch.randn(batch.mask.shape, generator=noise) * batch.mask
    reference = tiny(seed=2).logprobs(batch)
    return replace(batch, logprobs=near.detach(), extra=batch.extra | {"reference": reference.detach()})


def gradients(
    loss: Loss, micro_tokens: int, batch: Batch | None = None
) -> tuple[float, dict[str, torch.Tensor]]:
    policy = tiny()
    policy.optimizer = recorder = Recorder(policy.model)
    policy.micro_tokens = micro_tokens
    metrics = policy.fit(experience(policy) if batch is None else batch, loss)
    assert len(recorder.gradients) == 1
    return metrics["loss"], recorder.gradients[0]


@pytest.mark.parametrize("loss", [weighted_nll, GRPO(kl=0.1).loss], ids=["weighted_nll", "grpo"])
@pytest.mark.parametrize("micro_tokens", [1, 60, 100])
@pytest.mark.identities
def test_one_micro_batch_of_eight_is_eight_of_one(loss, micro_tokens):
    assert len(experience(tiny()).micro(1)) == 8 and len(experience(tiny()).micro(10_000)) == 1
    value, whole = gradients(loss, 10_000)
    cut_value, cut = gradients(loss, micro_tokens)
    assert cut_value == pytest.approx(value, abs=1e-6)
    for name, gradient in whole.items():
        assert (gradient - cut[name]).abs().max() < 1e-6, name
        assert gradient.abs().max() > 1e-5, name


@pytest.mark.parametrize("loss", [weighted_nll, GRPO(kl=0.1).loss], ids=["weighted_nll", "grpo"])
@pytest.mark.identities
def test_padding_changes_nothing(loss):
    batch = experience(tiny())

    def wider(x: torch.Tensor, filling: float) -> torch.Tensor:
        return torch.cat([x, torch.full((len(x), 9), filling, dtype=x.dtype)], 1)

    extra = {name: wider(x, 5.0) for name, x in batch.extra.items()}
    padded = Batch(
        wider(batch.tokens, 77), wider(batch.mask, False), wider(batch.weights, 3.0), wider(batch.logprobs, -2.0),
        batch.lengths, batch.temperatures, extra,
    )  # fmt: skip
    policies = [tiny(), tiny()]
    plain, filled = (p.logprobs(b) for p, b in zip(policies, (batch, padded), strict=True))
    assert (plain - filled[:, : plain.shape[1]]).abs().max() < 1e-6 and not filled[:, plain.shape[1] :].any()
    value, whole = gradients(loss, 10_000, batch)
    padded_value, got = gradients(loss, 10_000, padded)
    assert padded_value == pytest.approx(value, abs=1e-6)
    assert max((whole[name] - got[name]).abs().max() for name in whole) < 1e-6


def test_micro_batches_hold_each_row_once_and_no_more_tokens_than_allowed():
    batch = Batch.of(trajectories(tiny(), LENGTHS))
    parts = batch.micro(60)
    rows = [
        tuple(row[:n].tolist()) for part in parts for row, n in zip(part.tokens, part.lengths, strict=True)
    ]
    assert sorted(rows) == sorted(
        tuple(row[:n].tolist()) for row, n in zip(batch.tokens, LENGTHS, strict=True)
    )
    assert all(int(part.lengths.sum()) <= 60 for part in parts) and len(parts) < 8
    assert [len(part) for part in batch.micro(1)] == [1] * 8, "a row that is too long is alone"
    assert sum(part.totals().tokens for part in parts) == batch.totals().tokens


def test_log_probabilities_are_those_of_the_softmax():
    policy = tiny()
    for temperature in (1.0, 0.7):
        rows = [replace(t, temperature=temperature) for t in trajectories(policy, [9, 30, 2])]
        batch = Batch.of(rows)
        got = policy.logprobs(batch)
        with torch.no_grad():
            logits = policy.model.logits(policy.model(batch.tokens)) / temperature
        expected = logits.log_softmax(-1)[:, :-1].gather(2, batch.tokens[:, 1:, None])[..., 0]
        assert torch.allclose(got[:, 1:], expected.where(batch.mask[:, 1:], torch.tensor(0.0)), atol=1e-5)
        assert not got[:, 0].any() and not got.requires_grad
    assert policy.logprobs(batch, grad=True).requires_grad
    top, tokens = policy.distribution(batch, top_k=policy.model.config.vocab)
    live = torch.arange(batch.tokens.shape[1]) < batch.lengths[:, None]
    live[:, 0] = False
    assert top[live].exp().sum(-1).allclose(torch.tensor(1.0), atol=1e-5) and not top[~live].any()
    mine = top.gather(2, (tokens == batch.tokens[..., None]).int().argmax(-1, keepdim=True))[..., 0]
    assert torch.allclose(mine[batch.mask], policy.logprobs(batch)[batch.mask], atol=1e-5)


def test_fitting_raises_what_is_worth_something_and_lowers_what_costs():
    policy = tiny()
    policy.optimizer = adamw(policy.model, 1e-3, (0.9, 0.95))
    good, bad = trajectories(policy, [15, 15])
    good.weights, bad.weights = ([w * float(m) for m in row.mask] for row, w in ((good, 1.0), (bad, -1.0)))
    before = policy.logprobs(Batch.of([good, bad])).sum(1)
    metrics = policy.fit([good, bad], epochs=3)
    after = policy.logprobs(Batch.of([good, bad])).sum(1)
    assert after[0] > before[0] + 1 and after[1] < before[1] - 1
    assert metrics["gradient_norm"] > 0 and metrics["loss"] == metrics["loss"]


def test_epochs_and_minibatches_are_steps():
    policy = tiny()
    policy.optimizer = recorder = Recorder(policy.model)
    seen: list[Totals] = []

    def loss(logprobs_BT, batch, totals):
        seen.append(totals)
        return weighted_nll(logprobs_BT, batch, totals)

    batch = Batch.of(trajectories(policy, LENGTHS))
    policy.fit(batch, loss, epochs=2, minibatches=4)
    assert len(recorder.gradients) == 8
    assert sum(t.tokens for t in seen) == 2 * batch.totals().tokens and all(t.sequences == 2 for t in seen)
    assert policy.ledger.total().trained == 2 * batch.totals().tokens


NOT_FINITE = {
    "a loss that is not a number": lambda logprobs, batch, totals: logprobs.sum() * float("nan"),
    "an infinite loss": lambda logprobs, batch, totals: logprobs.sum() * float("inf"),
    "a gradient that is not a number": lambda logprobs, batch, totals: (logprobs * 0).sum().sqrt(),
}


@pytest.mark.parametrize("what", NOT_FINITE)
@pytest.mark.parametrize("micro_tokens", [1, 10_000])
def test_what_is_not_a_number_touches_nothing(what, micro_tokens):
    policy = tiny()
    policy.micro_tokens = micro_tokens
    policy.optimizer = adamw(policy.model, 1e-2, (0.9, 0.95))
    rows = trajectories(policy, LENGTHS)
    policy.fit(rows)
    before, state = weights(policy), {n: t.clone() for n, t in policy.optimizer.state().items()}
    with pytest.raises(Diverged, match=r"loss is|gradient is not finite") as trouble:
        policy.fit(rows, NOT_FINITE[what])
    assert same(weights(policy), before) and same(policy.optimizer.state(), state)
    assert torch.equal(trouble.value.batch.tokens, Batch.of(rows).tokens), "the batch is there to be saved"
    assert all(p.grad is None for p in policy.model.parameters()), "the next step starts clean"
    policy.fit(rows)


def test_a_snapshot_is_frozen_and_its_own():
    policy = tiny()
    policy.prompt = "remember"
    policy.optimizer = adamw(policy.model, 1e-2, (0.9, 0.95))
    rows = trajectories(policy, LENGTHS)
    frozen = policy.snapshot()
    before, scores = weights(frozen), frozen.logprobs(Batch.of(rows))
    assert torch.equal(scores, policy.logprobs(Batch.of(rows))) and frozen.prompt == "remember"
    policy.fit(rows)
    assert same(weights(frozen), before) and not same(weights(policy), before)
    assert torch.equal(frozen.logprobs(Batch.of(rows)), scores)
    assert not any(p.requires_grad for p in frozen.model.parameters()) and frozen.optimizer is None
    assert all(p.requires_grad for p in policy.model.parameters())
    spent = policy.ledger.total().tokens
    frozen.logprobs(Batch.of(rows))
    assert policy.ledger.total().tokens == spent + sum(LENGTHS), "its passes are billed to the same ledger"


def test_a_batch_refuses_what_cannot_be_learned_from():
    row = Trajectory([1, 2, 3], [False, True, True], [0.0, -1, -1], [0.0, 1, 1])
    with pytest.raises(ValueError, match="first token cannot be learned"):
        Batch.of([row, replace(row, mask=[True, True, True])])
    with pytest.raises(ValueError, match=r"trajectory 1 has 3 tokens, but entries in \{'weights': 2\}"):
        Batch.of([row, replace(row, weights=[0.0, 1])])
    with pytest.raises(ValueError, match="'entropy': 4"):
        Batch.of([replace(row, extra={"entropy": [0.0] * 4})])
    with pytest.raises(ValueError, match="at least one"):
        Batch.of([])


def test_named_numbers_go_along_where_every_row_has_them():
    row = Trajectory([1, 2, 3], [False, True, True], [0.0, -1, -1], [0.0, 1, 1])
    both = replace(row, extra={"value": [0.0, 0.5, 0.25], "entropy": [0.0, 1, 1]})
    batch = Batch.of(
        [both, replace(row, tokens=[1], mask=[False], logprobs=[0.0], weights=[0.0], extra={"value": [9.0]})]
    )
    assert list(batch.extra) == ["value"] and batch.extra["value"].tolist() == [[0, 0.5, 0.25], [9, 0, 0]]
    assert batch.rows(torch.tensor([1])).extra["value"].tolist() == [[9]]
    assert batch.to("cpu").extra["value"].shape == (2, 3)
    assert batch.totals() == Totals(tokens=2, sequences=1)


def test_the_tokenizer_fits_the_tiny_model():
    assert tiny().model.config.vocab == tokenizer().vocab_size == 420


def test_what_does_not_fit_is_computed_again_to_the_same_bits_and_billed(monkeypatch):
    batch, found, spent = experience(tiny()), [], []
    for memory in (1e12, 1.0):
        monkeypatch.setattr(recompute, "memory", lambda device, memory=memory: memory)
        policy, calls = tiny(), []
        policy.model.model.layers[0].register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        policy.optimizer = recorder = Recorder(policy.model)
        policy.fit(batch)
        found.append(recorder.gradients[0])
        spent.append(policy.ledger.total().flops)
        assert len(calls) == (1 if memory > 1 else 2)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert 1.1 < spent[1] / spent[0] < 4 / 3


@pytest.mark.parametrize("lengths", [[32] * 4, [32] * 16, [200, 190, 60, 7, 3], [256]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_are_estimated_from_above(lengths, dtype):
    """What autograd keeps of the layers, counted by torch, is no more than is reckoned with, and not a third of it."""
    policy, kept = tiny(context=256), {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    own = {p.untyped_storage().data_ptr() for p in policy.model.parameters()}
    batch = Batch.of(trajectories(policy, lengths))
    on = dtype != torch.float32
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x),
        torch.autocast("cpu", dtype, enabled=on),
    ):
        hidden(policy.model, batch)
    total = sum(size for where, size in kept.items() if where not in own)
    most = recompute.activations(policy.model.config, lengths)
    assert most / 3 < total <= most
