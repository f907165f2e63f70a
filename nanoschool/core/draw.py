"""draw: one token a row from logits. The draw is a function of (seed, key, position), whatever the rows beside it.

Shapes: B rows, V vocabulary.
"""

import numpy as np
import torch
from torch import Tensor


def draw(
    logits_BV: Tensor, temperature: float, seed: int, keys: list[int], positions: list[int]
) -> tuple[list[int], list[float], list[float]]:
    """Tokens, their log-probabilities and the entropies (nats) they were drawn at.

    By the inverse of the cumulative distribution, in float64. Temperature 0 takes the likeliest token, and gives
    log-probability and entropy at 1.
    """
    logprobs_BV = torch.log_softmax(logits_BV / (temperature or 1.0), dim=-1)
    p_BV = logprobs_BV.exp()
    if temperature == 0:
        token_B = logits_BV.argmax(-1)
    else:
        u_B = torch.from_numpy(uniform(seed, np.array(keys, dtype=np.uint64), np.array(positions)))
        cumulative_BV = p_BV.double().cumsum(-1)
        threshold_B1 = u_B.to(logits_BV.device)[:, None] * cumulative_BV[:, -1:]
        token_B = (cumulative_BV <= threshold_B1).sum(-1).clamp(max=p_BV.shape[1] - 1)
    entropy_B = -(p_BV * logprobs_BV.clamp(min=-1e4)).sum(-1)  # 0 log 0 is 0
    logprob_B = logprobs_BV.gather(1, token_B[:, None])[:, 0]
    return token_B.tolist(), logprob_B.tolist(), entropy_B.tolist()


def uniform(seed: int, keys: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1), a pure function of (seed, key, position): three rounds of splitmix64's finaliser."""
    with np.errstate(over="ignore"):
        x = keys.astype(np.uint64) ^ np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
        for add in (
            np.uint64(0x9E3779B97F4A7C15),
            positions.astype(np.uint64),
            np.uint64(0xD1B54A32D192ED03),
        ):
            x = x + add
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) / 2.0**53
