"""recompute: activations that would not fit into memory are dropped, and computed again in the backward pass (1604.06174).

It costs a third more FLOPs, so it is done only where half of the memory would not hold what a backward pass reads. The
gradient is the same to the bit.
"""

import os
from collections.abc import Sequence

import torch

from nanoschool.core.block_diagonal import ALIKE, BLOCK, LONG
from nanoschool.core.config import ModelConfig
from nanoschool.core.model import GPT

SHARE = 0.5  # of the memory that activations may take
BYTES = 4  # a number: in bfloat16 they take half of it, as do the norms' sums


def must(model: GPT, lengths: Sequence[int]) -> bool:
    """Would a backward pass over rows of these lengths read more than there is room for?"""
    return activations(model.config, lengths) > SHARE * memory(model.cos.device)


def activations(config: ModelConfig, lengths: Sequence[int]) -> float:
    """Bytes that a backward pass reads: each layer's residuals and norms, q, k and v before and after their norm and
    their rotation, the probabilities of attention and what it gives, the four parts of the feed-forward network, and its
    joined weights."""
    c = config
    qkv = (c.heads + 2 * c.kv_heads) * c.head_width
    token = 6 * c.width + (5 * c.heads + 4 * c.kv_heads) * c.head_width + 4 * c.hidden
    pairs = sum(n * (n + BLOCK) // 2 for n in (length + ALIKE for length in lengths) if n <= LONG + ALIKE)
    weights = c.width * (qkv + 2 * c.hidden)
    return float(BYTES * c.layers * (sum(lengths) * token + c.heads * pairs + weights))


def memory(device: torch.device) -> float:
    """Bytes that the device has."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
