"""Work that may try to take all memory, in a process of its own."""

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOST = 2**31  # bytes more than the process had: beyond them an allocation fails, and the machine stays usable
MB = 2**20


def in_child(work: Callable[[], Any], answer: Path) -> tuple[Any, float]:
    """What work() returns, of plain types and by way of a file, and the megabytes that its process grew by at most."""
    child = os.fork()
    if child == 0:
        os._exit(do_limited(work, answer))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the work did not end"
    found, grown = json.loads(answer.read_text())
    return found, grown


def do_limited(work: Callable[[], Any], answer: Path) -> int:
    if (sizes := Path("/proc/self/statm")).is_file():  # Linux
        limit = int(sizes.read_text().split()[0]) * resource.getpagesize() + MOST
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = peak()
    try:
        answer.write_text(json.dumps([work(), peak() - before]))
    except BaseException as error:  # whatever it is, the tests' own process must go on in the parent alone
        print(f"{type(error).__name__}: {error}", flush=True)
        return 1
    return 0


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
