"""recompute: activations that would not fit into memory are dropped, and computed again in the backward pass (1604.06174).

It costs a third more FLOPs, so it is done only where half of the memory would not hold what a backward pass reads. The
gradient is the same to the bit.
"""

import os

import torch

from nanoschool.core.config import ModelConfig
from nanoschool.core.model import GPT

SHARE = 0.5  # of the memory that activations may take
BYTES = 4  # a number: in bfloat16 they take half of it, as do the norms' sums


def must(model: GPT, tokens: int) -> bool:
    """Would a backward pass over so many tokens read more than there is room for?"""
    return activations(model.config, tokens) > SHARE * memory(model.cos.device)


def activations(config: ModelConfig, tokens: int) -> float:
    """Bytes that a backward pass reads: each layer's residuals and norms, q, k and v before and after their norm and
    their rotation, what attention gives, and the four parts of the feed-forward network."""
    c = config
    attention = (4 * c.heads + 3 * c.kv_heads) * c.head_width
    return float(BYTES * tokens * c.layers * (6 * c.width + attention + 4 * c.hidden))


def memory(device: torch.device) -> float:
    """Bytes that the device has."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
