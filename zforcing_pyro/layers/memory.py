"""Memory that a training step frees, and the next one needs again."""

import ctypes
import sys
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, LARGEST = -1, -3, 2**31 - 1  # glibc's malloc.h


@cache
def keep_freed_memory() -> None:
    """Tells glibc not to return freed memory to the system between steps (Linux only).

    Otherwise the system clears every page of large blocks at every step: 15 % of a step's time on
    images by pixels, a quarter with 16,000 words.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt if sys.platform.startswith("linux") else None
    except (AttributeError, OSError):  # another C library
        mallopt = None
    if mallopt:
        # The second is the most that older versions take. Without either, the last line would make
        # all blocks of 128 kB or more go back at once.
        mallopt(M_MMAP_THRESHOLD, 2**30) or mallopt(M_MMAP_THRESHOLD, 2**25)
        mallopt(M_TRIM_THRESHOLD, LARGEST)
