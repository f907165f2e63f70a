"""packed: a batch through a model without its padding: rows end to end, each attending to itself (2107.02027).

Shapes: B rows, T tokens of the longest, S tokens of all, N learned tokens, D width, V vocabulary.
"""

import torch
from torch import Tensor

from nanoschool.core.batch import Batch
from nanoschool.core.block_diagonal import block_diagonal
from nanoschool.core.model import GPT


def hidden(model: GPT, batch: Batch) -> tuple[Tensor, Tensor]:
    """Final hidden states of every token, (S, D), and where each row's first one is, (B,)."""
    steps_BT = torch.arange(batch.tokens.shape[1], device=batch.tokens.device).expand_as(batch.tokens)
    live_BT = steps_BT < batch.lengths[:, None]
    attend = block_diagonal(batch.lengths.tolist(), batch.tokens.device)
    x_1SD = model(batch.tokens[live_BT][None], steps_BT[live_BT][None], attend)
    return x_1SD[0], batch.lengths.cumsum(0) - batch.lengths


def before_learned(model: GPT, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The hidden state before each learned token, (N, D), and where those tokens are (row, column)."""
    x_SD, starts_B = hidden(model, batch)
    at_B, at_T = torch.nonzero(batch.mask, as_tuple=True)
    return x_SD[starts_B[at_B] + at_T - 1], (at_B, at_T)
