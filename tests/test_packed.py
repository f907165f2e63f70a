"""Training without padding: rows end to end, attention inside each, logits in chunks, and products by another library."""

import shutil
from random import Random
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from tiny import Recorder, tiny, trajectories
from torch.nn.attention import flex_attention, varlen

from nanoschool.core import likelihood, packed
from nanoschool.core.batch import Batch
from nanoschool.core.block_diagonal import block_diagonal
from nanoschool.core.critic import Critic
from nanoschool.core.flash import flash
from nanoschool.core.flex import blocks, flex
from nanoschool.core.likelihood import log_likelihood
from nanoschool.core.linear import FEW, joined, linear
from nanoschool.core.model import causal
from nanoschool.core.policy import Policy
from nanoschool.core.reward_model import RewardModel
from nanoschool.core.swiglu import swiglu

CPU = torch.device("cpu")


def padded_logprobs(policy: Policy, batch: Batch) -> torch.Tensor:
    """log p of every token, (B, T), by the plain forward pass over padded rows."""
    logprobs_BTV = policy.model.logits(policy.model(batch.tokens)).log_softmax(-1)
    return F.pad(logprobs_BTV[:, :-1].gather(2, batch.tokens[:, 1:, None])[..., 0], (1, 0))


@pytest.mark.parametrize("lengths", [[30, 7, 7, 12, 25, 3, 40, 2], [9] * 5, [40]])
@pytest.mark.identities
def test_packed_equals_padded_in_loss_and_gradient(lengths):
    policy, plain = tiny(depth=2), tiny(depth=2)
    batch = Batch.of(trajectories(policy, lengths))
    policy.optimizer = recorder = Recorder(policy.model)
    loss = policy.fit(batch)["loss"]
    expected = -(batch.weights * padded_logprobs(plain, batch))[batch.mask].sum() / batch.mask.sum()
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), abs=1e-5)
    for name, p in plain.model.named_parameters():
        assert (p.grad - recorder.gradients[0][name]).abs().max() < 1e-5, name
    with torch.no_grad():
        logprobs_BT = padded_logprobs(plain, batch).where(batch.mask, torch.tensor(0.0))
    assert (policy.logprobs(batch) - logprobs_BT).abs().max() < 1e-5


def test_values_and_scores_do_not_depend_on_the_rows_beside():
    policy = tiny()
    rows = trajectories(policy, [12, 30, 5])
    critic, judge = Critic(policy, 1e-3, 0.99), RewardModel(policy.model, policy.tokenizer, policy.ledger)
    torch.nn.init.normal_(critic.head.weight, generator=torch.Generator().manual_seed(0))
    values, scores = critic.values(Batch.of(rows)), judge.scores(Batch.of(rows))
    for i, row in enumerate(rows):
        alone = critic.values(Batch.of([row]))[0]
        assert (values[i, : len(alone)] - alone).abs().max() < 1e-5 and not values[i, len(alone) :].any()
        assert abs(float(scores[0, i] - judge.scores(Batch.of([row]))[0, 0])) < 1e-5


def attended(attend, lengths, dtype):
    """Output and gradients of q, k, v, for 4 query and 2 key-value heads."""
    random = torch.Generator().manual_seed(0)
    q, k, v, g = (torch.randn(1, n, sum(lengths), 16, generator=random) for n in (4, 2, 2, 4))
    leaves = [x.requires_grad_() for x in (q, k, v)]
    out = attend(0, q, k, v.to(dtype))
    out.float().backward(g)
    return [out.detach().float(), *(x.grad for x in leaves)]


@pytest.mark.parametrize(
    "lengths", [[130, 5, 5, 97, 96], [200, 200], [1, 1, 2], [5, 130, 7, 97, 2, 99, 6, 9]]
)
@pytest.mark.identities
def test_attention_stays_inside_its_row(lengths):
    """Rows one by one, of like length in one call, and all in one call."""
    one_by_one = attended(one_at_a_time(lengths), lengths, torch.float32)
    for alike in (0, 1, 4, max(lengths)):
        exact = attended(block_diagonal(lengths, CPU, alike), lengths, torch.float32)
        rounded = attended(block_diagonal(lengths, CPU, alike), lengths, torch.bfloat16)
        for expected, same, near in zip(one_by_one, exact, rounded, strict=True):
            assert (same - expected).abs().max() < 1e-5
            assert (near - expected).norm() < 0.01 * expected.norm(), "bfloat16 has 8 bits"


def one_at_a_time(lengths):
    def attend(layer, q, k, v):
        rows = zip(*(x.split(lengths, dim=2) for x in (q, k, v)), strict=True)
        return torch.cat([causal(layer, *row) for row in rows], dim=2)

    return attend


@pytest.mark.parametrize("lengths", [[130, 5, 5, 97, 96], [300, 200], [128, 256], [1, 1, 2]])
@pytest.mark.identities
def test_one_call_with_a_mask_of_blocks_stays_inside_its_row(lengths, monkeypatch):
    """Forward and backward by the formula that its kernel is made from, for which a CPU has no backward pass."""
    monkeypatch.setattr(flex_attention, "_validate_device", lambda q, k, v: None)
    attend = flex(lengths, CPU, compiled=False)

    def of_one_type(layer, q, k, v):
        return attend(layer, q.to(v.dtype), k.to(v.dtype), v)

    expected = attended(one_at_a_time(lengths), lengths, torch.float32)
    exact, rounded = (attended(of_one_type, lengths, dtype) for dtype in (torch.float32, torch.bfloat16))
    for same, near, wanted in zip(exact, rounded, expected, strict=True):
        assert (same - wanted).abs().max() < 1e-5
        assert (near - wanted).norm() < 0.01 * wanted.norm(), "bfloat16 has 8 bits"


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_one_call_with_a_mask_of_blocks_compiles():
    lengths, random = [130, 5, 5, 97, 96], torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, n, sum(lengths), 32, generator=random) for n in (4, 2, 2))
    apart = flex(lengths, CPU)(0, q, k, v) - one_at_a_time(lengths)(0, q, k, v)
    assert apart.abs().max() < 1e-5


@pytest.mark.parametrize("seed", range(20))
def test_blocks_are_those_that_all_pairs_would_tell(seed):
    random = Random(seed)
    lengths = [random.choice([1, 127, 128, 129, random.randrange(1, 700)]) for _ in range(1 + seed % 8)]
    ours, S = blocks(lengths, CPU), sum(lengths)
    theirs = flex_attention.create_block_mask(ours.mask_mod, None, None, S, S, device="cpu")
    assert ours.shape == theirs.shape and torch.equal(ours.to_dense(), theirs.to_dense())
    for part in ("kv", "full_kv", "q", "full_q"):
        count = getattr(ours, f"{part}_num_blocks")
        assert torch.equal(count, getattr(theirs, f"{part}_num_blocks"))
        mine, wanted = (getattr(mask, f"{part}_indices") for mask in (ours, theirs))
        live = torch.arange(mine.shape[-1]) < count[..., None]
        assert torch.equal(mine[live], wanted[live])


@pytest.mark.identities
def test_one_call_of_flash_attention_is_told_where_rows_end(monkeypatch):
    """A stand-in for the kernel, which only a GPU has: it holds us to what torch says of its arguments."""

    def kernel(q_SHK, k_SGK, v_SGK, ends_q, ends_k, longest_q, longest_k, *, window_size, enable_gqa):
        assert ends_q.dtype == ends_k.dtype == torch.int32 and ends_q[0] == 0 and enable_gqa
        assert longest_q == longest_k == int(ends_q.diff().max()) and window_size == (-1, 0)
        assert all(x.stride(-1) == 1 for x in (q_SHK, k_SGK, v_SGK))
        rows = one_at_a_time(ends_q.diff().tolist())
        q, k, v = (x.transpose(0, 1)[None] for x in (q_SHK, k_SGK, v_SGK))
        return rows(0, q, k, v)[0].transpose(0, 1)

    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    lengths = [30, 5, 5, 17]
    expected = attended(one_at_a_time(lengths), lengths, torch.float32)
    for same, wanted in zip(attended(flash(lengths, CPU), lengths, torch.float32), expected, strict=True):
        assert torch.equal(same, wanted)


def test_off_the_cpu_shapes_and_types_go_through_torchs_own_kernel(monkeypatch):
    """On a device that computes nothing, and knows no autocast: forward and backward."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)
    lengths, nowhere = [40, 96, 3], torch.device("meta")
    model = tiny(depth=2).model.to(nowhere, torch.bfloat16)
    tokens = torch.empty(1, sum(lengths), dtype=torch.int64, device=nowhere)
    x_1SD = model(tokens, tokens, flash(lengths, nowhere))
    x_1SD.sum().backward()
    assert x_1SD.shape == (1, sum(lengths), model.config.width)
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())


@pytest.mark.parametrize(
    ("device", "dtype", "compiler", "head_width", "chosen"),
    [
        ("cpu", torch.bfloat16, True, 32, block_diagonal),
        ("cuda", torch.bfloat16, True, 32, flash),
        ("cuda", torch.bfloat16, True, 128, flash),
        ("cuda", torch.bfloat16, True, 20, flex),  # no multiple of 8
        ("cuda", torch.float32, True, 32, flex),
        ("cuda", torch.float32, True, 8, block_diagonal),
        ("cuda", torch.bfloat16, False, 32, flash),  # it needs no compiler
        ("cuda", torch.float32, False, 32, block_diagonal),
        ("mps", torch.float32, False, 32, block_diagonal),
    ],
)
def test_attention_is_chosen_by_what_is_there(device, dtype, compiler, head_width, chosen, monkeypatch):
    monkeypatch.setattr(packed, "lacking", lambda device: "" if compiler else "none")
    model = SimpleNamespace(
        cos=SimpleNamespace(device=torch.device(device)), config=SimpleNamespace(head_width=head_width)
    )
    assert packed.attention(model, dtype) is chosen


def test_what_stands_in_one_row_changes_no_other():
    lengths, random = [40, 100, 30], torch.Generator().manual_seed(0)
    in_runs, one_call = block_diagonal(lengths, CPU), block_diagonal(lengths, CPU, max(lengths))
    for attend, dtype in ((in_runs, torch.float32), (in_runs, torch.bfloat16), (one_call, torch.float32)):
        q, k, v = (torch.randn(1, n, 170, 16, generator=random) for n in (4, 2, 2))
        before = attend(0, q, k, v.to(dtype))
        for x in (q, k, v):
            x[:, :, 40:140] += 1
        changed = (attend(0, q, k, v.to(dtype)) != before).any(-1)[0, 0]
        assert not changed[:40].any() and changed[41:140].all() and not changed[140:].any()


@pytest.mark.parametrize("kept", [0, 10**9], ids=["made again", "kept"])
@pytest.mark.identities
def test_chunks_of_logits_give_the_softmaxs_gradient(kept, monkeypatch):
    monkeypatch.setitem(likelihood.LOGITS, "cpu", 64 * 50)
    monkeypatch.setattr(likelihood, "KEPT", kept)
    random = torch.Generator().manual_seed(0)
    x, head, g = (torch.randn(*shape, generator=random) for shape in ((150, 24), (50, 24), (150,)))
    tokens, temperatures = (
        torch.randint(50, (150,), generator=random),
        torch.rand(150, generator=random) + 0.5,
    )
    results = []
    for way in (log_likelihood, plain_likelihood):
        leaves = [x.clone().requires_grad_(), head.clone().requires_grad_()]
        logprobs = way(*leaves, tokens, temperatures)
        logprobs.backward(g)
        results.append([logprobs.detach(), *(leaf.grad for leaf in leaves)])
    for ours, expected in zip(*results, strict=True):
        assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()
    nothing = log_likelihood(x[:0].requires_grad_(), head.requires_grad_(), tokens[:0], temperatures[:0])
    nothing.sum().backward()
    assert nothing.shape == (0,) and not head.grad.any()


def plain_likelihood(x, head, tokens, temperatures):
    return (x @ head.T / temperatures[:, None]).log_softmax(-1).gather(1, tokens[:, None])[:, 0]


@pytest.mark.parametrize("rows", [0, 1, FEW, 3 * FEW])
@pytest.mark.identities
def test_a_product_is_torchs(rows):
    random = torch.Generator().manual_seed(0)
    x, weight, g = (torch.randn(*s, generator=random) for s in ((2, rows, 24), (40, 24), (2, rows, 40)))
    results = []
    for way in (linear, F.linear):
        leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
        y = way(*leaves)
        y.backward(g)
        results.append([y.detach(), *(leaf.grad for leaf in leaves)])
    for ours, expected in zip(*results, strict=True):
        assert torch.allclose(ours, expected, atol=1e-4)
    frozen = weight.clone()
    x.requires_grad_()
    linear(x, frozen).sum().backward()
    assert frozen.grad is None and x.grad is not None


@pytest.mark.identities
@pytest.mark.parametrize(
    ("dtype", "close"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2), (torch.float64, 1e-12)]
)
def test_swiglu_is_torchs(dtype, close):
    random = torch.Generator().manual_seed(0)
    x, g = torch.randn(3, 5, 26, generator=random), torch.randn(3, 5, 13, generator=random)
    x[0, 0, :6] = torch.tensor([-200.0, 200, -88, 88, 0, -0.0])
    ours, plain = x.to(dtype).requires_grad_(), x.to(dtype).requires_grad_()
    y, (gate, up) = swiglu(ours), plain.chunk(2, dim=-1)
    expected = F.silu(gate) * up
    for out in (y, expected):
        out.backward(g.to(dtype))
    for one, other in ((y, expected), (ours.grad, plain.grad)):
        assert one.dtype == dtype and torch.allclose(one, other, rtol=close, atol=close)
        assert dtype == torch.bfloat16 or (one[1:] - other[1:]).abs().max() < 1e-6
    assert swiglu(torch.full((2, 40), torch.nan, dtype=dtype)).isnan().all()


@pytest.mark.identities
def test_joined_projections_are_those_side_by_side():
    policy = tiny()
    layer = policy.model.model.layers[0].self_attn
    parts, x = (layer.q_proj, layer.k_proj, layer.v_proj), torch.randn(40, policy.model.config.width)
    whole = joined(x, parts)
    whole.square().sum().backward()
    together = [part.weight.grad.clone() for part in parts]
    for part in parts:
        part.weight.grad = None
    each = torch.cat([part(x) for part in parts], dim=-1)
    each.square().sum().backward()
    assert (whole - each).abs().max() < 1e-5
    for part, grad in zip(parts, together, strict=True):
        assert torch.allclose(part.weight.grad, grad, rtol=1e-4, atol=1e-4)
