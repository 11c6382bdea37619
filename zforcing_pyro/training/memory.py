"""What the C library does with memory that is freed."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Lets this process keep what it frees, up to its end: a training step asks for it again.

    Otherwise glibc gives large blocks back to the system, which clears every page of them when
    they are asked for again, at every step: a quarter of a step's time with 16,000 words. No
    effect where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    # The second is the most that older versions take; without it the next would make all blocks
    # of 128 kB or more go back at once.
    mallopt(M_MMAP_THRESHOLD, 2**30) or mallopt(M_MMAP_THRESHOLD, 2**25)
    mallopt(M_TRIM_THRESHOLD, LARGEST)
