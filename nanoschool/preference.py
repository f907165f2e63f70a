"""Preference: the losses of learning from comparisons. Pure functions on tensors, one number a pair or a reply.

Definitions and defaults are the papers'; each is named at its function. P pairs, B replies. `chosen` and `rejected` are
log-ratios log pi(y|x) − log pi_ref(y|x) summed over the reply's tokens, unless a function says otherwise.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def dpo(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """DPO (2305.18290, Eq. 7): −log σ(β (u − v)); at its reference it is ln 2."""
    return -logsigmoid(beta * (chosen - rejected))


def cdpo(chosen: Tensor, rejected: Tensor, beta: float, flipped: float) -> Tensor:
    """cDPO (Mitchell 2023): a share `flipped` of the labels is wrong, so neither side is to win for certain."""
    margin = beta * (chosen - rejected)
    return -(1 - flipped) * logsigmoid(margin) - flipped * logsigmoid(-margin)


def ipo(chosen: Tensor, rejected: Tensor, tau: float) -> Tensor:
    """IPO (2310.12036, Eq. 17): (u − v − 1/(2τ))²; the margin has a target and does not grow for ever."""
    return (chosen - rejected - 1 / (2 * tau)) ** 2


def kto(ratios: Tensor, desirable: Tensor, baseline: Tensor | float, beta: float) -> Tensor:
    """KTO (2402.01306, Eq. 7) without its weights: 1 − σ(β (r − z)) where desirable, 1 − σ(β (z − r)) elsewhere; (B,)."""
    gain = beta * (ratios - baseline)
    return 1 - torch.sigmoid(torch.where(desirable, gain, -gain))


def log_odds(means: Tensor) -> Tensor:
    """log(p / (1 − p)) of the mean log-probability of a token, below 0 (2403.07691, Eq. 4); 1 − p is 1e-7 at least."""
    return means - torch.log(-torch.expm1(means.clamp(max=-1e-7)))


def orpo(chosen: Tensor, rejected: Tensor, weight: float) -> Tensor:
    """ORPO (2403.07691, Eqs. 6 and 7): −log p of the chosen, and λ × −log σ(log odds − log odds). Means a token, both."""
    return -chosen - weight * logsigmoid(log_odds(chosen) - log_odds(rejected))


def simpo(chosen: Tensor, rejected: Tensor, beta: float, gamma: float) -> Tensor:
    """SimPO (2405.14734, Eq. 6): −log σ(β (P_w − P_l) − γ). Means a token, both."""
    return -logsigmoid(beta * (chosen - rejected) - gamma)


def bradley_terry(chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """A reward model's loss (2203.02155, Eq. 1): −log σ(r_w − r_l − margin), of scores; the margin is 2307.09288's."""
    return -logsigmoid(chosen - rejected - margin)


def off_centre(chosen: Tensor, rejected: Tensor) -> Tensor:
    """(r_w + r_l)² (2312.09244): comparisons leave a reward's level open, and this draws it to 0."""
    return (chosen + rejected) ** 2
