"""training: an optimizer step on the same rows, beside transformers' model in float32, eager, on the same weights.

Both step torch's AdamW over all parameters with the gradient clipped to norm 1. Ours is `Policy.fit`, in float32, as what
was sampled is fitted, and in the type that reading and imitation are fitted in where the processor has it.
"""

from collections.abc import Iterator
from random import Random

import torch
from torch import Tensor

from bench import subjects
from bench.duel import Duel
from nanoschool.core.batch import Batch
from nanoschool.core.optim import adamw
from nanoschool.core.policy import Policy
from nanoschool.types import Trajectory

VOCAB, CONTEXT, LR = 1024, 192, 1e-4
ROWS = {"20 rows of 192": [CONTEXT] * 20, "64 rows of 20 to 150": [20 + 130 * i // 63 for i in range(64)]}


def duels() -> Iterator[Duel]:
    for depth in (3, 5):
        policy = subjects.policy(depth, VOCAB, CONTEXT)
        theirs = subjects.exported(policy)
        policy.model.requires_grad_(True)
        policy.optimizer = adamw(policy.model, LR, betas=(0.9, 0.95))
        optimizer = torch.optim.AdamW(theirs.parameters(), lr=LR, betas=(0.9, 0.95), weight_decay=0.0)
        parameters = sum(p.numel() for p in policy.model.parameters())
        for what, lengths in ROWS.items():
            batch = rows(policy, lengths)
            for dtype in dict.fromkeys((torch.float32, policy.fast)):
                yield Duel(
                    f"training step, {what}",
                    f"{parameters / 1e6:.2f}M parameters, vocabulary {VOCAB}, context {CONTEXT}, "
                    f"{str(dtype).removeprefix('torch.')}, AdamW",
                    lambda policy=policy, batch=batch, dtype=dtype: ours(policy, batch, dtype),
                    lambda theirs=theirs, optimizer=optimizer, batch=batch: step(theirs, optimizer, batch),
                    "transformers, eager float32",
                    target=1.5,
                )


def rows(policy: Policy, lengths: list[int]) -> Batch:
    """Random words; all but the first of a row are learned."""
    random, vocab = Random(0), policy.tokenizer.vocab_size
    return Batch.of(
        [
            Trajectory(
                [random.randrange(vocab) for _ in range(n)], [False] + [True] * (n - 1), [0.0] * n, [1.0] * n
            )
            for n in lengths
        ]
    )


def ours(policy: Policy, batch: Batch, dtype: torch.dtype) -> int:
    policy.fit(batch, dtype=dtype)
    return int(batch.lengths.sum())


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> int:
    """Padded rows with a mask, as its Trainer hands them over."""
    live: Tensor = torch.arange(batch.tokens.shape[1]) < batch.lengths[:, None]
    model.train()
    model(
        batch.tokens, attention_mask=live.long(), labels=batch.tokens.masked_fill(~live, -100)
    ).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return int(batch.lengths.sum())
