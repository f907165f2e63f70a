"""graph: functions of training as torch.compile makes them: a few kernels of what is dozens of operations.

What is compiled is what surrounds attention, which is one kernel already: a layer up to it and a layer after it, two graphs
that all layers share, and what is done to a chunk of logits. The count of tokens is their variable from the first batch
on, all else is constant, and no kernel is chosen by its time: a run that was killed makes the same graphs again.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

GRAPHS = 64  # of a function: by models, types of number, with and without a gradient


def graph(function: Callable[..., Any], compiled: bool, along: int) -> Callable[..., Any]:
    """The function as it is, or compiled; dimension `along` of each tensor that it is given is tokens."""
    return _compiled(function, along) if compiled else function


@cache
def _compiled(function: Callable[..., Any], along: int) -> Callable[..., Any]:
    torch._dynamo.config.recompile_limit = GRAPHS  # ty: ignore[invalid-assignment] (not a constant)
    made = torch.compile(function, dynamic=False, fullgraph=True, options={"deterministic": True})

    def call(*given: Any) -> Any:
        for x in tree_leaves(given):
            if isinstance(x, Tensor) and x.shape[along] > 1:  # one token is a graph of its own
                torch._dynamo.mark_dynamic(x, along)
        return made(*given)

    return call


def by_hand(x: Tensor) -> bool:
    """Are passes over memory saved by hand (passes.c)? On a CPU, outside of what torch.compile makes."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()
