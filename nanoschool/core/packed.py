"""packed: a batch through a model without its padding: rows end to end, each attending to itself (2107.02027).

Shapes: B rows, T tokens of the longest, S tokens of all, N learned tokens, D width, V vocabulary.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nanoschool.core.batch import Batch
from nanoschool.core.block_diagonal import block_diagonal
from nanoschool.core.fitting import lacking
from nanoschool.core.linear import compute_type
from nanoschool.core.model import GPT, Attend

FLASHES = range(8, 257, 8)  # widths of a head that FlashAttention has kernels for
HAS_FLASH = torch.__version__ >= "2.12" and torch.version.hip is None  # where heads share keys
NARROWEST = 16  # head that FlexAttention has one for


def attention(model: GPT, dtype: torch.dtype) -> Callable[[Sequence[int], torch.device], Attend]:
    """What attends to rows of given lengths fastest, of what the device has, where products are of `dtype`.

    On a GPU that is FlashAttention in bfloat16, and FlexAttention in float32, in which torch's own makes all scores where
    heads share keys. Torch's own is for where neither is there.
    """
    kind, width = model.cos.device.type, model.config.head_width
    if kind == "cuda" and dtype == torch.bfloat16 and width in FLASHES and HAS_FLASH:
        from nanoschool.core.flash import flash  # it imports torch's compiler, which takes seconds

        return flash
    if kind == "cuda" and width >= NARROWEST and not lacking(kind):
        from nanoschool.core.flex import flex

        return flex
    return block_diagonal


def hidden(model: GPT, batch: Batch) -> tuple[Tensor, Tensor]:
    """Final hidden states of every token, (S, D), and where each row's first one is, (B,)."""
    steps_BT = torch.arange(batch.tokens.shape[1], device=batch.tokens.device).expand_as(batch.tokens)
    live_BT = steps_BT < batch.lengths[:, None]
    attend = attention(model, compute_type(model.cos))(batch.lengths.tolist(), model.cos.device)
    x_1SD = model(batch.tokens[live_BT][None], steps_BT[live_BT][None], attend)
    return x_1SD[0], batch.lengths.cumsum(0) - batch.lengths


def before_learned(model: GPT, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The hidden state before each learned token, (N, D), and where those tokens are (row, column)."""
    x_SD, starts_B = hidden(model, batch)
    at_B, at_T = torch.nonzero(batch.mask, as_tuple=True)
    return x_SD[starts_B[at_B] + at_T - 1], (at_B, at_T)
