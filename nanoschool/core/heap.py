"""heap: memory that a tensor frees stays with the process, for the next one.

Glibc gives large blocks back to the system when they are freed, and takes new ones; the system clears each page of those
at the first touch, which took a fifth of decoding and a tenth of a training step. Nothing is computed otherwise.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
MOST = 2**31 - 1


def keep_freed() -> bool:
    """True where the C library can be told so."""
    tell = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return tell is not None and bool(tell(M_MMAP_MAX, 0) and tell(M_TRIM_THRESHOLD, MOST))
