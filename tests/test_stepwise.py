"""Stepwise: golden numbers of the reference implementations (methods.md, 2.12), identities, and the edges."""

import random

import pytest
import torch
from torch import tensor

from nanoschool.stepwise import clipped_value, gae, generalised_jsd, kl, step_advantages, whitened, with_tail

MASK = [[True] * 4, [True] * 3 + [False], [True] * 2 + [False] * 2, [True] * 4]
VALUES = [[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 9.0], [0.5, 0.5, 9.0, 9.0], [0.0, 0.1, 0.2, 0.9]]
R2 = [1.0, 0.5, 0.0, 1.0]
STUDENT, TEACHER = tensor([[1.0, 0.0, -2.0]]).log_softmax(-1), tensor([[0.2, 1.0, 0.0]]).log_softmax(-1)


def near(values, golden, digits=6):
    assert list(values) == pytest.approx(golden, abs=0.6 * 10**-digits)


def last(mask: list[bool], reward: float) -> list[float]:
    """The reward on the last sampled token."""
    end = max(t for t, sampled in enumerate(mask) if sampled)
    return [reward if t == end else 0.0 for t in range(len(mask))]


def test_gae_golden():
    raw = [gae(last(m, r), v, m, gamma=1.0, lam=0.95) for m, r, v in zip(MASK, R2, VALUES, strict=True)]
    near(raw[0], [0.799675, 0.736500, 0.67, 0.6])
    near(raw[1], [0.075750, 0.185, 0.3, 0])
    near(raw[2], [-0.475, -0.5, 0, 0])
    near(raw[3], [0.912487, 0.855250, 0.795, 0.1])
    near(whitened(raw, MASK)[0], [0.844962, 0.715037, 0.578273, 0.434312])


def test_gae_over_a_tools_answer_golden():
    """The tool's tokens are no steps, whatever the critic says of them; its answer wipes out no credit (verl#7278)."""
    mask, values = [True, True, False, False, True, True], [0.5, 0.6, 7.0, 7.0, 0.8, 0.9]
    near(gae(last(mask, 1.0), values, mask, 1.0, 0.95), [0.465988, 0.385250, 0, 0, 0.195, 0.1])
    assert gae(last(mask, 1.0), [0.0] * 6, mask, 1.0, 1.0) == [1, 1, 0, 0, 1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_gae_identities(seed):
    """λ = 1: returns less values; λ = 0: the TD error; γ = 0: the next reward less the value."""
    rng = random.Random(seed)
    T = rng.randint(1, 30)
    rewards, values = ([rng.gauss(0, 1) for _ in range(T)] for _ in range(2))
    mask = [rng.random() < 0.7 for _ in range(T)]
    at = [t for t in range(T) if mask[t]]
    gamma = rng.random()
    monte_carlo = gae(rewards, values, mask, gamma, 1.0)
    td = gae(rewards, values, mask, gamma, 0.0)
    blind = gae(rewards, values, mask, 0.0, rng.random())
    for i, t in enumerate(at):
        rest = at[i:]
        returns = sum(gamma**k * rewards[s] for k, s in enumerate(rest))
        assert monte_carlo[t] == pytest.approx(returns - values[t])
        after = values[rest[1]] if len(rest) > 1 else 0.0
        assert td[t] == pytest.approx(rewards[t] + gamma * after - values[t])
        assert blind[t] == pytest.approx(rewards[t] - values[t])
    assert all(not x[t] for x in (monte_carlo, td, blind) for t in range(T) if not mask[t])


@pytest.mark.golden
def test_step_advantages_golden_and_sum():
    near(step_advantages([0.3, 0.6, 0.2], 1.0), [0.3, -0.4, 0.8])
    rng = random.Random(0)
    for steps in (1, 2, 9):
        values, reward = [rng.random() for _ in range(steps)], rng.random()
        assert sum(step_advantages(values, reward)) == pytest.approx(reward - values[0])
        mask = [True] * steps  # they are GAE's at λ = 0, a step a token
        assert step_advantages(values, reward) == pytest.approx(
            gae(last(mask, reward), values, mask, 1.0, 0.0)
        )
    assert step_advantages([0.1] * 3, 0.1) == [0, 0, 0]


def test_whitening():
    rows, mask = [[1.0, 2.0, 50.0], [4.0, 50.0]], [[True, True, False], [True, False]]
    out = whitened(rows, mask)
    flat = tensor([out[0][0], out[0][1], out[1][0]])
    assert flat.mean().item() == pytest.approx(0, abs=1e-6) and flat.std().item() == pytest.approx(
        1, abs=1e-6
    )
    assert out[0][2] == out[1][1] == 0
    assert whitened([[0.1] * 3, [0.1]], [[True] * 3, [True]]) == [[0] * 3, [0]], (
        "equal values are exactly nothing"
    )
    assert whitened([[5.0, 7.0]], [[False, True]]) == [[0, 0]] and whitened([], []) == []


def test_value_loss_golden():
    loss = clipped_value(tensor([0.5, 1.0]), tensor([1.0, 1.0]), tensor([0.1, 0.9]), 0.2)
    assert loss.mean().item() == pytest.approx(0.1225, abs=1e-6)
    free = clipped_value(tensor([0.5, 1.0]), tensor([1.0, 1.0]), tensor([0.1, 0.9]), 1e9)
    near(free.tolist(), [0.125, 0.0])


def test_distillation_golden():
    forward, reverse = (generalised_jsd(STUDENT, TEACHER, beta).item() for beta in (0.0, 1.0))
    assert forward == pytest.approx(0.509079, abs=6e-7) and reverse == pytest.approx(0.482862, abs=6e-7)
    assert generalised_jsd(STUDENT, TEACHER, 0.1).item() == pytest.approx(0.044344, abs=6e-7)
    assert generalised_jsd(STUDENT, TEACHER, 0.5).item() == pytest.approx(0.116695, abs=6e-7)
    top = STUDENT.topk(2).indices
    tailed = generalised_jsd(with_tail(STUDENT, top), with_tail(TEACHER, top), 1.0)
    assert tailed.item() == pytest.approx(0.482863, abs=2e-6)
    renormalised = [x.gather(1, top).log_softmax(-1) for x in (STUDENT, TEACHER)]
    assert kl(renormalised[0], renormalised[1]).item() == pytest.approx(0.373744, abs=6e-7)


def test_divergence_identities():
    generator = torch.Generator().manual_seed(0)
    p, q = torch.randn(2, 50, 7, generator=generator, dtype=torch.float64).log_softmax(-1)
    for beta in (0.0, 0.1, 0.5, 0.9, 1.0):
        assert generalised_jsd(p, p, beta).abs().max() < 1e-12
        assert (generalised_jsd(p, q, beta) >= 0).all()
        assert torch.allclose(generalised_jsd(p, q, beta), generalised_jsd(q, p, 1 - beta)), "the mirror"
        whole = torch.arange(6).expand(50, 6)  # all but one: the tail is the last
        same = generalised_jsd(with_tail(p, whole), with_tail(q, whole), beta)
        assert torch.allclose(same, generalised_jsd(p, q, beta), atol=1e-6)
        few = p.topk(3).indices
        assert (
            generalised_jsd(with_tail(p, few), with_tail(q, few), beta) <= generalised_jsd(p, q, beta) + 1e-9
        ).all()
    assert generalised_jsd(p, q, 0.5).max() <= torch.log(tensor(2.0))
    assert torch.allclose(with_tail(p, p.topk(3).indices).exp().sum(-1), torch.ones(50).double())
    for beta in (0.001, 0.999):  # GKD's limits: over β they are the two KLs
        scaled = generalised_jsd(p, q, beta) / min(beta, 1 - beta)
        assert torch.allclose(scaled, kl(q, p) if beta < 0.5 else kl(p, q), rtol=0.05, atol=0.01)


def test_a_certain_student_has_a_finite_loss_and_gradient():
    """What the top tokens leave over may be nothing at all."""
    logits = tensor([[40.0, 0.0, -40.0]]).requires_grad_()
    student, top = logits.log_softmax(-1), tensor([[0, 1]])
    for beta in (0.0, 0.5, 1.0):
        loss = generalised_jsd(with_tail(student, top), with_tail(TEACHER, top), beta).sum()
        (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
        assert torch.isfinite(loss) and torch.isfinite(gradient).all()
