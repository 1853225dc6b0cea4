"""How much memory this machine has, for what would never fit, and how a process keeps what it has had."""

import ctypes
import os
import platform
from collections.abc import Callable
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt()
LARGEST, LARGEST_OF_OLD = 2**30, 2**25  # bytes of a block that is kept when it is free


def machine_memory() -> int | None:
    """Bytes of RAM, None where the system does not say."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None


def own_memory() -> int:
    """Bytes that this process holds and no file stands behind; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def keep_freed_memory() -> None:
    """Large blocks that are freed stay in the process for the next that are wanted.

    glibc gives those above 32 MB back at once and asks for them anew: each activation of a large layer then waits for
    the system to fill its pages with zeros, which can take half of a convolutional encoder's time. Elsewhere than with
    glibc, or where whoever started the process has tuned it, nothing is done.
    """
    tuned = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    if platform.libc_ver()[0] == "glibc" and not tuned:
        keep_blocks(ctypes.CDLL(None).mallopt)


def keep_blocks(mallopt: Callable[[int, int], int]) -> None:
    """Older glibc takes no more than LARGEST_OF_OLD; it must take one, or the second call would do harm alone."""
    if mallopt(M_MMAP_THRESHOLD, LARGEST) or mallopt(M_MMAP_THRESHOLD, LARGEST_OF_OLD):
        mallopt(M_TRIM_THRESHOLD, LARGEST)
