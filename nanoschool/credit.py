"""Credit: from rewards to what each token is worth. Pure functions on plain lists, and the losses' arithmetic on tensors.

Definitions and golden numbers follow the papers named at each function. Shapes: P problems, G attempts, T tokens.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def leave_one_out(rewards_G: Sequence[float]) -> list[float]:
    """RLOO (2402.14740): each reward less the mean of the others'. A group of one has nothing to compare: 0."""
    n, total = len(rewards_G), sum(rewards_G)
    if n == 1:
        return [0.0]
    return [0.0 if min(rewards_G) == max(rewards_G) else r - (total - r) / (n - 1) for r in rewards_G]


def group_normalised(rewards_G: Sequence[float], eps: float = 1e-6) -> list[float]:
    """GRPO (2402.03300): less the mean, over the Bessel-corrected standard deviation. Equal rewards give exactly 0."""
    n = len(rewards_G)
    if n == 1 or min(rewards_G) == max(rewards_G):
        return [0.0] * n
    mean = sum(rewards_G) / n
    std = (sum((r - mean) ** 2 for r in rewards_G) / (n - 1)) ** 0.5
    return [(r - mean) / (std + eps) for r in rewards_G]


def by_group(
    groups: Sequence[int], rewards: Sequence[float | None], rule: Callable[[Sequence[float]], list[float]]
) -> list[float]:
    """Apply `rule` within each group. Rewards of None (unscorable) stay out of the statistics and are worth 0."""
    members: dict[int, dict[int, float]] = {}
    for i, (group, reward) in enumerate(zip(groups, rewards, strict=True)):
        if reward is not None:
            members.setdefault(group, {})[i] = reward
    advantages = [0.0] * len(rewards)
    for scored in members.values():
        for i, advantage in zip(scored, rule(list(scored.values())), strict=True):
            advantages[i] = advantage
    return advantages


def less_mean(rewards_G: Sequence[float]) -> list[float]:
    """Dr. GRPO (2503.20783): each reward less the group's mean. Equal rewards give exactly 0."""
    if min(rewards_G) == max(rewards_G):
        return [0.0] * len(rewards_G)
    mean = sum(rewards_G) / len(rewards_G)
    return [r - mean for r in rewards_G]


def differs(rewards_G: Sequence[float]) -> list[float]:
    """1 for each member of a group whose rewards are not all equal, else 0: what DAPO (2503.14476, Eq. 11) keeps."""
    return [float(min(rewards_G) < max(rewards_G))] * len(rewards_G)


def overlong(length: int, longest: int, buffer: int) -> float:
    """DAPO's soft punishment (2503.14476, Eq. 13): 0 up to longest − buffer, from there down in a line, −1 at longest."""
    if buffer == 0:
        return -float(length > longest)
    return -min(1.0, max(0.0, (length - (longest - buffer)) / buffer))


def agreement(answers_G: Sequence[str | None]) -> list[float]:
    """TTRL's reward (2504.16084): 1 for the answer that most of the group gave, else 0.

    None is no answer: it has no vote and is paid 0. Of answers with as many votes the one that was given first wins.
    """
    votes = Counter(answer for answer in answers_G if answer is not None)
    most = max(votes, key=lambda answer: votes[answer], default=None)
    return [float(answer is not None and answer == most) for answer in answers_G]


def zero_variance(groups: Sequence[int], rewards: Sequence[float | None]) -> float:
    """The share of groups whose rewards are all equal, unscorable ones apart: they teach a critic-free method nothing."""
    seen: dict[int, set[float]] = {group: set() for group in groups}
    for group, reward in zip(groups, rewards, strict=True):
        if reward is not None:
            seen[group].add(reward)
    return sum(len(values) <= 1 for values in seen.values()) / len(seen)


def ratio(logprobs: Tensor, old: Tensor) -> Tensor:
    """exp(log pi − log pi_old), the difference clamped to ±20 before the exponential."""
    return (logprobs - old).clamp(-20.0, 20.0).exp()


def clipped(ratio: Tensor, advantage: Tensor, low: float, high: float) -> Tensor:
    """PPO's clipped objective as a loss (1707.06347, Eq. 7): −min(ρ A, clip(ρ, 1−low, 1+high) A)."""
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


def sequence_ratio(logprobs_BT: Tensor, old_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """GSPO's ratio in its token form (2507.18071, Eq. 7 and 14), (B, T): its value on every token of a row is s_i, the
    geometric mean of the row's token ratios, and each token has a gradient of s_i through its own log-probability.
    """
    difference_BT = ((logprobs_BT - old_BT) * mask_BT).detach()
    means_B1 = difference_BT.sum(1, keepdim=True) / mask_BT.sum(1, keepdim=True).clamp(min=1)
    return ((logprobs_BT - logprobs_BT.detach()) + means_B1.clamp(-20.0, 20.0)).exp()


def truncated(ratio: Tensor, advantage: Tensor, logprobs: Tensor, low: float, high: float) -> Tensor:
    """CISPO (2506.13585, Eq. 4 and 5) as a loss: −sg(clip(ρ, 1−low, 1+high)) A log pi. No token loses its gradient."""
    return -ratio.detach().clamp(1 - low, 1 + high) * advantage * logprobs


def kl_k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Schulman's k3, exp(−d) − 1 + d with d = log pi − log ref: unbiased, at least 0, as GRPO's loss uses it."""
    d = (logprobs - reference).clamp(-20.0, 20.0)
    return (-d).exp() - 1 + d


def token_mean(values_BT: Tensor, mask_BT: Tensor, tokens: int) -> Tensor:
    """DAPO's aggregation (2503.14476, Eq. 12): every one of the step's `tokens` weighs the same."""
    return values_BT[mask_BT].sum() / max(tokens, 1)


def sequence_mean_of_token_means(values_BT: Tensor, mask_BT: Tensor, sequences: int) -> Tensor:
    """GRPO's aggregation (2402.03300, Eq. 3): the mean within each non-empty row, then over `sequences` of the step."""
    tokens_B = mask_BT.sum(1)
    means_B = (values_BT * mask_BT).sum(1) / (tokens_B + 1e-8)
    return means_B.sum() / max(sequences, 1)
