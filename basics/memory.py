"""How much memory this machine has, for what would never fit."""

import os


def machine_memory() -> int | None:
    """Bytes of RAM, None where the system does not say."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
