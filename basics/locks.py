"""Folders that one process at a time may change. A lock ends with its process, however that ends.

with locked(folder / "run.lock", otherwise="take another --run-name"): ...       # refused where another has it
with locked(folder / "prepare.lock"): ...                                        # waits for the other, and says so
"""

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from basics.errors import UserError
from basics.files import remove_leftovers


@contextlib.contextmanager
def locked(path: Path, otherwise: str = "") -> Iterator[None]:
    """Hold the lock file, whose text says who does; its folder is made, and gone again where it stays empty.

    Where another process holds it: UserError with what to do otherwise, or without that wait. What was left behind by
    writers that were killed is removed.
    """
    if path.parent.is_dir() and not os.access(path.parent, os.W_OK):  # nobody can change it
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    acquire(lock, path, otherwise)
    try:
        remove_leftovers(path.parent)
        path.write_text(f"process {os.getpid()} since {datetime.now():%H:%M}: {shlex.join(sys.argv)}", encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):  # whoever waits for it sees that it is gone, and makes another
            path.unlink()
            path.parent.rmdir()  # only where nothing else is in it: a run that ended before it began
        lock.release()


def acquire(lock: FileLock, path: Path, otherwise: str) -> None:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if otherwise:
            raise UserError(f"{path.parent} is in use by {holder(path)}; {otherwise}") from None
        print(f"waiting      for {holder(path)}, which is at work in {path.parent}", flush=True)
        try:
            lock.acquire()
        except FileNotFoundError:  # the other removed its empty folder
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()


def holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"
