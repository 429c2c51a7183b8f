"""The allocator of the C library, which training on a CPU uses for every tensor."""

import ctypes
import os
import platform

# Of `mallopt`, from malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST = 2**31 - 1
SMALLER = 2**25  # the most that older versions of glibc take


def keep_freed_memory() -> None:
    """Let freed blocks stay with this process, for the next allocation, where the C library is glibc.

    By default glibc returns large blocks to the system. The system clears them and maps them anew, page by page, when
    the next step allocates its activations again. That takes a tenth of the step of some networks on a CPU. Settings
    of the environment (`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_`) are kept.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(TRIM_THRESHOLD, LARGEST)
    for size in (LARGEST, SMALLER):
        if mallopt(MMAP_THRESHOLD, size):
            break
