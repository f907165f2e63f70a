"""Stepwise: what a token or a step inside a reply is worth, and how far a student's next token is from a teacher's.

Pure functions beside `credit`, whose unit is the whole attempt. Definitions and golden numbers follow the papers named at
each function. Shapes: T tokens, K steps of one attempt, N learned tokens of a batch, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def gae(
    rewards_T: Sequence[float], values_T: Sequence[float], mask_T: Sequence[bool], gamma: float, lam: float
) -> list[float]:
    """Generalised advantage estimation (1506.02438, Eq. 16): A_t = δ_t + γλ A_{t+1}, δ_t = r_t + γ V_{t+1} − V_t.

    values[t] is of the state before token t; after the last one it is 0. A token that the policy did not sample is no
    step: what follows it is handed over it unchanged, so that a tool's answer neither earns nor wipes out credit.
    """
    advantages, ahead, value = [0.0] * len(values_T), 0.0, 0.0
    for t in reversed(range(len(values_T))):
        if mask_T[t]:
            ahead = rewards_T[t] + gamma * value - values_T[t] + gamma * lam * ahead
            value = values_T[t]
            advantages[t] = ahead
    return advantages


def step_advantages(values_K: Sequence[float], reward: float) -> list[float]:
    """VinePPO (2410.01679, section 4): A_k = V(s_{k+1}) − V(s_k), the value of the end being the reward.

    values[k] is of the state that step k starts from, in whole returns: they sum to the reward less V(s_0).
    """
    return [after - before for before, after in zip(values_K, [*values_K[1:], reward], strict=True)]


def whitened(rows: Sequence[Sequence[float]], masks: Sequence[Sequence[bool]]) -> list[list[float]]:
    """(x − mean) / sqrt(var + 1e-8) over all masked entries, var Bessel-corrected; 0 elsewhere, and if all are equal."""
    flat = [x for row, mask in zip(rows, masks, strict=True) for x, m in zip(row, mask, strict=True) if m]
    if len(flat) < 2 or min(flat) == max(flat):
        return [[0.0] * len(row) for row in rows]
    mean = sum(flat) / len(flat)
    scale = (sum((x - mean) ** 2 for x in flat) / (len(flat) - 1) + 1e-8) ** -0.5
    return [
        [(x - mean) * scale if m else 0.0 for x, m in zip(row, mask, strict=True)]
        for row, mask in zip(rows, masks, strict=True)
    ]


def clipped_value(values: Tensor, returns: Tensor, old: Tensor, clip: float) -> Tensor:
    """PPO's value loss, elementwise: ½ max((V − R)², (clip(V, V_old ± clip) − R)²)."""
    near = torch.maximum(torch.minimum(values, old + clip), old - clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2)


def generalised_jsd(student_NV: Tensor, teacher_NV: Tensor, beta: float) -> Tensor:
    """GKD (2306.13649, Eq. 1) of log-probabilities, (N,): β KL(T‖M) + (1 − β) KL(S‖M), M = (1 − β) S + β T.

    Its limits as GKD has them: β = 0 is the forward KL(T‖S), β = 1 the reverse KL(S‖T).
    """
    if beta in (0.0, 1.0):
        return kl(student_NV, teacher_NV) if beta else kl(teacher_NV, student_NV)
    shares = torch.tensor([1 - beta, beta], dtype=student_NV.dtype, device=student_NV.device).log()
    mixture_NV = torch.logaddexp(student_NV + shares[0], teacher_NV + shares[1])
    return beta * kl(teacher_NV, mixture_NV) + (1 - beta) * kl(student_NV, mixture_NV)


def kl(p_NV: Tensor, q_NV: Tensor) -> Tensor:
    """KL(p‖q) of log-probabilities, (N,), in nats."""
    return (p_NV.exp() * (p_NV - q_NV)).sum(-1)


def with_tail(logprobs_NV: Tensor, index_NK: Tensor) -> Tensor:
    """The log-probabilities at `index`, and in a last entry that of everything else (SDPO, 2601.20802), (N, K + 1)."""
    top_NK = logprobs_NV.gather(-1, index_NK)
    whole_N1 = top_NK.logsumexp(-1, keepdim=True).clamp(max=-1e-7)
    return torch.cat([top_NK, (-torch.expm1(whole_N1)).log()], dim=-1)
