"""Credit of the methods that learn from a reward: golden numbers of methods.md 2.12, and the edges."""

import math

import pytest
import torch
from test_credit import ADVANTAGE, MASK, NEW, OLD, R2, near
from torch import tensor

from nanoschool import credit
from nanoschool.methods.reinforce_pp import ReinforcePP
from nanoschool.stepwise import whitened
from nanoschool.types import Trajectory


def returns(
    mask: list[int], reward: float, gamma: float = 1.0, kl: float = 0.0, k1: float = 0.0
) -> list[float]:
    blank = [0.0] * len(mask)
    attempt = Trajectory([0] * len(mask), [bool(m) for m in mask], blank, blank, reward)
    return ReinforcePP(gamma=gamma, kl=kl).returns(attempt, [k1] * len(mask))


@pytest.mark.golden
def test_less_mean():
    near(credit.less_mean([1, 0, 0, 1]), [0.5, -0.5, -0.5, 0.5])
    assert credit.less_mean([0.1] * 3) == [0, 0, 0] == credit.less_mean([0.7] * 3), (
        "the mean of three 0.1 is not 0.1"
    )
    loo = credit.leave_one_out(R2)
    near(credit.less_mean(R2), [a * 3 / 4 for a in loo])  # unbiased up to G / (G − 1)


@pytest.mark.golden
def test_reinforce_pp_whitens_over_the_whole_batch():
    rows = [returns(mask, reward) for mask, reward in zip(MASK.tolist(), R2, strict=True)]
    got = whitened(rows, MASK.tolist())
    for row, mask, golden in zip(got, MASK, [0.693670, -0.594574, -1.882819, 0.693670], strict=True):
        near(row, [golden * float(m) for m in mask])


@pytest.mark.golden
def test_reinforce_pp_returns():
    near(returns([1, 1, 1, 1], 1.0, gamma=0.9), [0.729, 0.81, 0.9, 1])
    near(returns([1, 1, 1, 0], 0.5, gamma=0.9), [0.405, 0.45, 0.5, 0])
    assert returns([1, 1, 0, 0, 1, 1], 1.0) == [1, 1, 0, 0, 1, 1], (
        "a tool's tokens do not wipe out what came before"
    )
    near(returns([1, 1, 0, 1], 1.0, kl=0.1, k1=0.5), [0.85, 0.9, 0, 0.95])


def loss_and_gradient(objective, aggregate) -> tuple[float, torch.Tensor]:
    new = NEW.clone().requires_grad_()
    loss = aggregate(objective(new))
    loss.backward()
    assert new.grad is not None and not new.grad[~MASK].any()
    return loss.item(), new.grad


def sequence_mean(x: torch.Tensor) -> torch.Tensor:
    return credit.sequence_mean_of_token_means(x, MASK, 4)


@pytest.mark.golden
def test_gspo():
    def objective(new):
        return credit.clipped(credit.sequence_ratio(new, OLD, MASK), ADVANTAGE, 0.2, 0.28)

    loss, gradient = loss_and_gradient(objective, sequence_mean)
    assert loss == pytest.approx(-0.067050, abs=6e-7)
    near(gradient[0].tolist(), [-0.07445] * 4, 5)
    assert not gradient[1].any()


def test_the_sequence_ratio_is_the_geometric_mean_of_the_tokens():
    got, tokens = credit.sequence_ratio(NEW, OLD, MASK), credit.ratio(NEW, OLD)
    for row, mask, ratios in zip(got, MASK, tokens, strict=True):
        assert row[mask].tolist() == pytest.approx(
            [math.prod(ratios[mask].tolist()) ** (1 / mask.sum().item())] * int(mask.sum())
        )
    assert torch.isfinite(credit.sequence_ratio(NEW, OLD, torch.zeros(4, 4).bool())).all(), "a row of nothing"
    assert torch.isfinite(credit.sequence_ratio(NEW + 1e4, OLD, MASK)).all()


@pytest.mark.golden
def test_cispo():
    def objective(new):
        return credit.truncated(credit.ratio(new, OLD), ADVANTAGE, new, 0.2, 0.28)

    loss, gradient = loss_and_gradient(objective, lambda x: credit.token_mean(x, MASK, 13))
    assert loss == pytest.approx(0.149854, abs=6e-7)
    assert gradient[MASK].all(), "no token loses its gradient"
    assert loss_and_gradient(objective, sequence_mean)[0] == pytest.approx(0.033930, abs=6e-7)


@pytest.mark.golden
def test_the_token_mean_divides_by_the_whole_step():
    assert credit.token_mean(torch.ones(4, 4), MASK, 13).item() == pytest.approx(1)
    assert credit.token_mean(torch.ones(4, 4), MASK, 26).item() == pytest.approx(0.5)
    assert credit.token_mean(torch.ones(4, 4), torch.zeros(4, 4).bool(), 0).item() == 0
    near(
        [credit.token_mean(credit.clipped(credit.ratio(NEW, OLD), ADVANTAGE, 0.2, 0.28), MASK, 13).item()],
        [-0.193246],
    )


@pytest.mark.golden
def test_overlong():
    assert credit.overlong(18000, 20480, 4096) == pytest.approx(-0.394531, abs=6e-7)
    assert credit.overlong(16384, 20480, 4096) == 0 == credit.overlong(1, 20480, 4096)
    assert credit.overlong(20480, 20480, 4096) == -1 == credit.overlong(99999, 20480, 4096), (
        "verl has no floor here"
    )
    assert credit.overlong(10, 10, 0) == 0 and credit.overlong(11, 10, 0) == -1


def test_dapo_keeps_groups_that_differ():
    assert credit.by_group([0, 0, 1, 1, 2, 2], [1.0, 0.0, 1.0, 1.0, 0.5, None], credit.differs) == [
        1,
        1,
        0,
        0,
        0,
        0,
    ]


def test_the_majority_is_paid():
    assert credit.agreement(["4", "7", "4", None]) == [1, 0, 1, 0]
    assert credit.agreement(["7", "4"]) == [1, 0], "of equals the one first given"
    assert credit.agreement([None, None]) == [0, 0] and credit.agreement(["", None]) == [1, 0]


def test_the_weight_of_cispo_is_no_path_for_the_gradient():
    new = tensor([-1.0, -2.0], requires_grad=True)
    credit.truncated(
        credit.ratio(new, tensor([-3.0, -1.0])), tensor([1.0, 1.0]), new, 1.0, 4.0
    ).sum().backward()
    assert new.grad is not None
    near(new.grad.tolist(), [-5.0, -math.exp(-1)])  # e² is capped at 5; there is no clip below
