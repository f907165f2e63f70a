"""heap: memory that a tensor frees stays with the process, for the next one.

Glibc gives large blocks back to the system when they are freed, and takes new ones; the system clears each page of those
at the first touch, which took a fifth of decoding and a tenth of a training step. Nothing is computed otherwise.
"""

import ctypes
import gc
import sys
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
MOST = 2**31 - 1


def keep_freed() -> bool:
    """True where the C library can be told so."""
    tell = _glibc("mallopt")
    return tell is not None and bool(tell(M_MMAP_MAX, 0) and tell(M_TRIM_THRESHOLD, MOST))


def give_back() -> None:
    """After a piece of work whose models nobody needs any more: what is unreachable is collected and goes to the system."""
    gc.collect()
    if trim := _glibc("malloc_trim"):
        trim(0)


def _glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
