"""Processes that load data: no more than there are cores, and none that outlives the run it works for.

num_workers(settings.NUM_WORKERS)                       # at most the cores, which is said
DataLoader(..., worker_init_fn=end_with_parent)
"""

import contextlib
import ctypes
import functools
import os
import signal
import sys
import threading
import time

from basics.launched import launched

PR_SET_PDEATHSIG = 1  # of Linux's prctl
WATCHED = 1.0  # seconds between two looks at the parent, where the system does not tell


@functools.cache  # said once a run, not by each loader
def num_workers(wanted: int) -> int:
    """As many as wanted, at most one a core that this process may use, of those it shares with others that train."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = max(1, cores // launched().count_here)
    if wanted > most:
        print(f"note         NUM_WORKERS {wanted:,} is {most}, one a core: more would only wait for one another")
    return min(wanted, most)


def end_with_parent(worker: int) -> None:
    """For a worker's start: it is killed when its parent is gone, however that ended."""
    parent = os.getppid()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it went while this was said
            os._exit(1)
        return
    threading.Thread(target=watch, args=[parent], daemon=True).start()


def watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCHED)
    os._exit(1)
