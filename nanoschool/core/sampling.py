"""sampling: in what type a session of the engine multiplies, and who makes its steps."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nanoschool.types import UserError

if TYPE_CHECKING:  # torch takes seconds to import, and settings hold a Sampling
    import torch

    from nanoschool.core.attention import Step
    from nanoschool.core.fused import Fused


@dataclass(frozen=True)
class Sampling:
    """How replies are sampled.

    In float32 a recorded log-probability is within 1e-4 of what the trainer computes, in bfloat16 99 of 100 are within 2e-2
    (0.0007 on average in the laptop's model, 0.2 at worst): a ratio to it is as far from 1 before anything was learned.
    All steps give the same numbers but for rounding.
    """

    dtype: Literal["float32", "bfloat16"] = "float32"  # of products of matrices and of the cache
    # auto: native on a CPU, eager elsewhere; native: in C between two products of matrices, made by the machine's compiler
    # in a second; graphed: by torch.compile, as CUDA graphs, attention of no more of the cache than there is
    steps: Literal["auto", "eager", "native", "graphed"] = "auto"

    def parts(self, device: str) -> "tuple[type[Fused], type[Step], torch.dtype]":
        """Who multiplies, who attends to the cache, and in what type. UserError where that cannot be done here."""
        import torch

        from nanoschool.core import attention, fused

        dtype = getattr(torch, self.dtype)
        steps = self.steps
        if steps == "auto":
            steps = "native" if device == "cpu" else "eager"
        if steps == "eager":
            return fused.Fused, attention.Step, dtype
        if steps == "native":
            from nanoschool.core import native

            native.check(device)
            return native.Native, native.Step, dtype
        try:
            from nanoschool.core import graphs
        except ModuleNotFoundError as error:
            told = f"graphed steps need a CUDA GPU and {error.name}, which torch for CUDA brings along"
            raise UserError(f"{told}; on this machine give --sampling.steps auto") from None
        graphs.check(device)
        return graphs.Graphed, graphs.Step, dtype


EXACT = Sampling()
