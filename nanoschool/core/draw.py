"""draw: one token a row from logits. The draw is a function of (seed, key, position), whatever the rows beside it.

Shapes: B rows, V vocabulary.
"""

import numpy as np
import torch
from torch import Tensor

Drawn = tuple[Tensor, Tensor, Tensor]


def draw(logits_BV: Tensor, temperature: float, u_B: Tensor) -> Drawn:
    """Tokens (int64), their log-probabilities and the entropies (nats) they were drawn at, (B,) each.

    By the inverse of the cumulative distribution at `u_B`, both in float64. Temperature 0 takes the likeliest token, and
    gives log-probability and entropy at 1.
    """
    if temperature not in (0.0, 1.0):
        logits_BV = logits_BV / temperature
    p_BV = logits_BV.softmax(-1)
    if temperature == 0:
        token_B1 = logits_BV.argmax(-1, keepdim=True)
    else:
        cumulative_BV = p_BV.cumsum(-1, dtype=torch.float64)
        threshold_B1 = u_B[:, None] * cumulative_BV[:, -1:]
        token_B1 = torch.searchsorted(cumulative_BV, threshold_B1, right=True)
        token_B1 = token_B1.clamp_(max=p_BV.shape[1] - 1)
    logprob_B1 = p_BV.gather(1, token_B1).log_()
    # H = log Z − Σ p z, and log Z = z − log p of any token
    entropy_B1 = logits_BV.gather(1, token_B1) - logprob_B1 - torch.linalg.vecdot(p_BV, logits_BV)[:, None]
    return token_B1[:, 0], logprob_B1[:, 0], entropy_B1[:, 0].clamp_(min=0)


def on_host(drawn: Drawn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `draw` gives as numpy's. A device is waited for once: it copies all at a time, in float32, which holds a
    token's number to the bit below 2**24."""
    token_B, logprob_B, entropy_B = drawn
    if token_B.device.type == "cpu":
        return token_B.numpy(), logprob_B.numpy(), entropy_B.numpy()
    token_B, logprob_B, entropy_B = torch.stack(drawn).cpu().numpy()
    return token_B.astype(np.int64), logprob_B, entropy_B


def uniform(seed: int, keys: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1), a pure function of (seed, key, position): three rounds of splitmix64's finaliser.

    Arrays that broadcast."""
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
