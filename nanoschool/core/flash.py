"""flash: rows end to end attended to in one call, by FlashAttention's kernel for rows of any lengths (2307.08691).

Its backward pass adds up the gradient of q in no fixed order, so on a GPU two runs agree but for rounding.

Shapes: B rows, S tokens of all rows, H query heads, G key-value heads, K head width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.attention import varlen

from nanoschool.core.model import Attend


def flash(lengths: Sequence[int], device: torch.device) -> Attend:
    """Attention of rows of these lengths: a token sees its own row, up to itself. In bfloat16 or float16, on CUDA."""
    ends_B = torch.tensor([0, *lengths]).cumsum(0, dtype=torch.int32).to(device)
    longest = max(lengths)

    def attend(layer: int, q_1HSK: Tensor, k_1GSK: Tensor, v_1GSK: Tensor) -> Tensor:
        q_SHK, k_SGK, v_SGK = (x[0].transpose(0, 1) for x in (q_1HSK, k_1GSK, v_1GSK))
        out_SHK = varlen.varlen_attn(
            q_SHK, k_SGK, v_SGK, ends_B, ends_B, longest, longest, window_size=(-1, 0), enable_gqa=True
        )
        assert isinstance(out_SHK, Tensor), "nothing else was asked for"
        return out_SHK.transpose(0, 1)[None]

    return attend
