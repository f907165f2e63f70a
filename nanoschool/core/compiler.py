"""compiler: is there what torch.compile needs? (Of what is in C see c.py.)"""

from functools import cache

from nanoschool.types import UserError


@cache
def check(device: str) -> None:
    """UserError where nothing can be compiled for a device here."""
    try:
        import torch._dynamo  # it takes seconds
        from torch._inductor.exc import InductorError
    except OSError as error:
        told = f"what torch.compile makes is kept on disk, and cannot be: {error}"
        raise UserError(f"{told}; set TORCHINDUCTOR_CACHE_DIR to a folder of yours") from None
    if torch._dynamo.config.disable:
        raise UserError("torch.compile is switched off by TORCH_COMPILE_DISABLE: unset it")
    try:
        torch.compile(torch.neg, fullgraph=True)(torch.ones(2, device=device))
    except InductorError as error:
        told = str(error).splitlines()[0]
        raise UserError(
            f"torch.compile needs a working C++ compiler ({told}): install g++ or clang"
        ) from None
