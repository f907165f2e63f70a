"""The golden numbers of methods.md 2.12 that belong to losses which are no method here yet, said in our primitives.

Whoever adds one as a file finds its number here; what is shipped is tested in test_credit*.py, test_stepwise.py,
test_preference.py and test_stats.py.
"""

import math

import pytest
import torch
from test_credit import ADVANTAGE, MASK, NEW, OLD, R2, near
from torch import Tensor, tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from nanoschool.credit import clipped, kl_k3, less_mean, ratio, sequence_mean_of_token_means, token_mean

pytestmark = pytest.mark.golden
LENGTHS = MASK.sum(1).tolist()
RHO = ratio(NEW, OLD)
U, V, BETA = tensor(1.0), tensor(-1.0), 0.1  # summed log-ratios of a chosen and a rejected reply


def over_tokens(loss_BT: Tensor) -> float:
    return token_mean(loss_BT, MASK, 13).item()


def over_answers(loss_BT: Tensor) -> float:
    return sequence_mean_of_token_means(loss_BT, MASK, 4).item()


def test_baselines():
    opo = sum(n * r for n, r in zip(LENGTHS, R2, strict=True)) / sum(LENGTHS)  # 2505.23585
    near([r - opo for r in R2], [0.269231, -0.230769, -0.730769, 0.269231])
    near(
        [a * len(R2) / sum(r != 0 for r in R2) for a in less_mean(R2)], [0.5, -0.166667, -0.833333, 0.5]
    )  # GPG
    rewards = tensor([1, 0.5, 0, 0.25])  # GRPO for pass@k, 2503.19595: only the best has an advantage
    best, second = rewards.topk(2).values
    assert ((best - second) / (rewards.std() + 1e-6)).item() == pytest.approx(1.171077, abs=6e-7)


def test_ratio_losses():
    tau = torch.where(ADVANTAGE > 0, 1.0, 1.05)  # SAPO, 2511.20347
    assert over_answers(-(4 / tau) * (tau * (RHO - 1)).sigmoid() * ADVANTAGE) == pytest.approx(
        -0.105529, abs=6e-7
    )
    low, high = tensor(-0.2), tensor(0.28)  # GMPO, 2507.20673: clamped on the side that the advantage rewards
    log_ratio = torch.where(ADVANTAGE > 0, (NEW - OLD).minimum(high), (NEW - OLD).maximum(low)) * MASK
    means = (log_ratio.sum(1) / MASK.sum(1)).exp()
    assert (-ADVANTAGE[:, 0] * means).mean().item() == pytest.approx(-0.023497, abs=6e-7)
    assert min(3.0, clipped(tensor(math.e**2), tensor(-1.0), 0.2, 0.2).item()) == 3.0  # dual clip, 1912.09729

    def vespo(w: float, k: float, lam: float) -> float:  # 2602.10693
        return math.exp(lam + k * math.log(w) - lam * w)

    near([vespo(w, 2, 3) for w in (0.5, 1, 2)], [1.120422, 1, 0.199148])
    near([vespo(w, 3, 2) for w in (0.5, 1, 2)], [0.339785, 1, 1.082683], digits=5)


def test_corrections_of_a_sampler_that_differs():
    behaviour = OLD + 0.1 * tensor([[1, -1, 2, 0], [-3, 1, 0, 0], [10, 0, 0, 0], [0, 0, 1, -1]])
    w, ppo = (OLD - behaviour).exp(), clipped(RHO, ADVANTAGE, 0.2, 0.28)
    assert over_tokens(w.clamp(0.5, 2) * ppo) == pytest.approx(-0.189878, abs=6e-7)
    assert over_tokens(w.clamp(max=2) * ppo) == pytest.approx(
        -0.197459, abs=6e-7
    )  # truncated importance sampling
    inside = (w >= 0.5) & (w <= 2)
    assert over_tokens(w * inside * ppo) == pytest.approx(-0.218567, abs=6e-7)  # IcePop, 2510.18855
    geometric = (((OLD - behaviour) * MASK).sum(1, keepdim=True) / MASK.sum(1, keepdim=True)).exp()
    kept = (geometric >= 0.5) & (geometric <= 2)
    assert over_tokens(kept * w * ppo) == pytest.approx(-0.197459, abs=6e-7)  # OpenRLHF's seq-mask-tis


def test_prime_rl():
    step = NEW.exp() - OLD.exp()
    kept = ~((ADVANTAGE > 0) & (step > 0.2) | (ADVANTAGE < 0) & (step < -0.2))
    held = 1e-3 * (NEW - OLD) ** 2
    total = (held - ADVANTAGE * RHO * kept)[MASK].sum().item()  # DPPO, 2602.04879
    assert total == pytest.approx(-3.808893, abs=6e-6) and total / 13 == pytest.approx(-0.292992, abs=6e-7)
    teacher = OLD - 0.05
    drawn = (-(teacher - NEW) * RHO * ~(step < -0.2) + held)[MASK].sum().item()
    assert drawn == pytest.approx(2.373482, abs=6e-6)


def test_kl_estimators_and_the_controller():
    d = tensor([-1, -0.5, -2]) - tensor([-1.2, -0.4, -1])
    near(d.tolist(), [0.2, -0.1, -1])
    near((d**2 / 2).tolist(), [0.02, 0.005, 0.5])
    near(kl_k3(d, torch.zeros(3)).tolist(), [0.018731, 0.005171, 0.718282])

    def adapted(found: float) -> float:  # 1909.08593
        return 0.2 * (1 + max(-0.2, min(0.2, found / 0.1 - 1)) * 256 / 1e4)

    near([adapted(0.05), adapted(0.3)], [0.198976, 0.201024])
    best_of_n = [math.log(n) - (n - 1) / n for n in (4, 16, 64)]
    near(best_of_n, [0.636294, 1.835089, 3.174508])


def test_preference_losses():
    d = U - V
    golden = {
        "hinge": (max(0.0, (1 - BETA * d).item()), 0.8),
        "robust": ((-0.9 * logsigmoid(BETA * d) + 0.1 * logsigmoid(-BETA * d)).item() / 0.8, 0.573139),
        "sppo": (((U - 1 / (2 * BETA)) ** 2 + (V + 1 / (2 * BETA)) ** 2).item(), 32.0),
        "apo-zero": ((1 - (BETA * U).sigmoid() + (BETA * V).sigmoid()).item(), 0.950042),
        "apo-down": (((BETA * U).sigmoid() + 1 - (BETA * d).sigmoid()).item(), 0.975145),
        "nca": (
            -(logsigmoid(BETA * U) + 0.5 * logsigmoid(-BETA * U) + 0.5 * logsigmoid(-BETA * V)).item(),
            1.338793,
        ),
    }
    for name, (got, wanted) in golden.items():
        assert got == pytest.approx(wanted, abs=6e-7 * max(1, wanted)), name
    sums = tensor([0.2 - 0.1 + 0.4, -0.3 + 0.1])  # PRIME's outcome model, 2502.01456
    assert binary_cross_entropy_with_logits(0.05 * sums, tensor([1.0, 0.0])).item() == pytest.approx(
        0.684443, abs=6e-7
    )
