"""Credit: golden numbers of the papers' reference implementations (verl, run on these inputs), and the edges."""

import math

import pytest
import torch
from torch import tensor

from nanoschool import credit
from nanoschool.core.batch import Batch, Totals, weighted_nll

MASK = tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]).bool()
OLD = tensor([[-1, -0.5, -2, -0.1], [-0.7, -1.2, -0.3, 0], [-0.9, -0.4, 0, 0], [-1.5, -0.2, -0.6, -1.1]])
NEW = tensor([[-0.7, -0.6, -1.5, -0.1], [-1, -1.1, -0.8, 0], [-0.5, -0.4, 0, 0], [-1.9, -0.1, -0.6, -0.9]])
ADVANTAGE = tensor([1.0, -1.0, -0.5, 0.5])[:, None]
R2 = [1.0, 0.5, 0.0, 1.0]


def near(values, golden, digits=6):
    assert list(values) == pytest.approx(golden, abs=0.6 * 10**-digits)


@pytest.mark.golden
def test_group_baselines():
    near(credit.leave_one_out(R2), [0.5, -0.166667, -0.833333, 0.5])
    near(credit.group_normalised([1, 0, 0, 1]), [0.866024, -0.866024, -0.866024, 0.866024])
    near(credit.group_normalised(R2), [0.783348, -0.261116, -1.305580, 0.783348])
    mean_centred = [0.75 * a for a in credit.leave_one_out([1, 0, 0, 1])]  # leave-one-out is G/(G-1) of it
    near(mean_centred, [0.5, -0.5, -0.5, 0.5])


@pytest.mark.parametrize("rule", [credit.leave_one_out, credit.group_normalised])
@pytest.mark.identities
def test_a_group_of_one_and_equal_rewards_give_exactly_nothing(rule):
    assert rule([0.7]) == [0.0]
    for reward in (0.0, 0.1, 1 / 3, -1e9):  # the mean of three 0.1 is not 0.1
        assert rule([reward] * 3) == [0.0] * 3
    assert sum(rule([0.1, 0.7, 0.4])) == pytest.approx(0, abs=1e-12)


def test_unscorable_attempts_are_left_out_of_their_group():
    groups, rewards = [0, 0, 1, 0, 1, 2, 3, 3], [1.0, None, 0.25, 0.0, 0.75, 5.0, None, None]
    assert credit.by_group(groups, rewards, credit.leave_one_out) == [1, 0, -0.5, -1, 0.5, 0, 0, 0]
    apart = credit.group_normalised([1.0, 0.0])
    got = credit.by_group(groups, rewards, credit.group_normalised)
    assert [got[0], got[3]] == apart and got[1] == got[5] == got[6] == 0
    assert credit.by_group([], [], credit.leave_one_out) == []


def test_groups_that_teach_nothing():
    assert credit.zero_variance([0, 0, 1, 1], [1.0, 1.0, 0.0, 1.0]) == 0.5
    assert credit.zero_variance([0, 0, 1, 1, 2], [1.0, None, 0.0, 1.0, None]) == pytest.approx(2 / 3)
    assert credit.zero_variance([0, 0], [0.0, 0.5]) == 0.0


def ppo(aggregate) -> tuple[float, torch.Tensor]:
    """PPO's clipped loss at epsilon .2 and .28, and its gradient."""
    new = NEW.clone().requires_grad_()
    loss = aggregate(credit.clipped(credit.ratio(new, OLD), ADVANTAGE, 0.2, 0.28))
    loss.backward()
    assert new.grad is not None
    return loss.item(), new.grad


@pytest.mark.golden
def test_ppo_clip():
    loss, grad = ppo(lambda x: (x * MASK).sum() / MASK.sum())
    assert loss == pytest.approx(-0.193246, abs=6e-7)
    near(grad[0].tolist(), [0, -0.06960, 0, -0.07692], 5)
    near(grad[1].tolist(), [0, 0.08501, 0, 0], 5)
    assert not grad[~MASK].any()
    loss, grad = ppo(lambda x: credit.sequence_mean_of_token_means(x, MASK, 4))
    assert loss == pytest.approx(-0.022785, abs=6e-7)
    near(grad[0].tolist(), [0, -math.exp(-0.1) / 16, 0, -1 / 16], 5)


def test_the_sequence_mean_divides_by_the_whole_step():
    values = torch.ones(4, 4)
    assert credit.sequence_mean_of_token_means(values, MASK, 4).item() == pytest.approx(1)
    assert credit.sequence_mean_of_token_means(values, MASK, 8).item() == pytest.approx(0.5)
    assert credit.sequence_mean_of_token_means(values, torch.zeros(4, 4).bool(), 0).item() == 0


@pytest.mark.golden
def test_reinforce_is_the_default_loss():
    weights = (ADVANTAGE * MASK).float()
    pad = torch.zeros(4, 1)
    batch = Batch(
        torch.zeros(4, 5, dtype=torch.int64),
        torch.cat([pad.bool(), MASK], 1),
        torch.cat([pad, weights], 1),
        torch.cat([pad, OLD], 1),
        torch.tensor([5, 4, 3, 5]),
        torch.ones(4),
    )
    assert batch.totals() == Totals(tokens=13, sequences=4)
    loss = weighted_nll(torch.cat([pad, NEW], 1), batch, batch.totals())
    assert loss.item() == pytest.approx(0.1, abs=1e-6)


@pytest.mark.golden
def test_kl_k3():
    new, reference = tensor([-1, -0.5, -2]), tensor([-1.2, -0.4, -1])
    near(credit.kl_k3(new, reference).tolist(), [0.018731, 0.005171, 0.718282])
    assert credit.kl_k3(new, new).tolist() == [0, 0, 0]
    assert (credit.kl_k3(torch.randn(999), torch.randn(999)) >= 0).all()
    assert torch.isfinite(credit.kl_k3(tensor([-1e9, 0.0]), tensor([0.0, -1e9]))).all()


@pytest.mark.identities
def test_k3_is_unbiased_for_the_kl_divergence():
    """Against the exact sum over a vocabulary of five."""
    logits = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p, q = logits.log_softmax(-1)
    exact = (p.exp() * (p - q)).sum()
    assert (p.exp() * credit.kl_k3(p, q)).sum().item() == pytest.approx(exact.item(), rel=1e-12)


def test_the_ratio_does_not_overflow():
    assert credit.ratio(NEW, NEW).eq(1).all()
    assert credit.ratio(tensor([0.0, -500.0]), tensor([-500.0, 0.0])).tolist() == pytest.approx(
        [math.exp(20), math.exp(-20)]
    )


def test_the_clip_is_a_lower_bound():
    """Raising the ratio past the clip gains nothing, lowering it costs whatever it costs (1707.06347, figure 1)."""
    ratios = tensor([0.5, 0.9, 1.0, 1.1, 2.0])
    near(credit.clipped(ratios, tensor(1.0), 0.2, 0.2).tolist(), [-0.5, -0.9, -1.0, -1.1, -1.2])
    near(credit.clipped(ratios, tensor(-1.0), 0.2, 0.2).tolist(), [0.8, 0.9, 1.0, 1.1, 2.0])
