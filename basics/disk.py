"""Disks that are full or fail while something is written: one line with the place, what is free there and the reason.

with writing(path): torch.save(state, file)         # raises WriteError for a full or failing disk
"""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from basics.errors import UserError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
BY_THE_DISK = (*NO_ROOM, errno.EIO)
NUMBER_OF_RUST = re.compile(r"\(os error (\d+)\)")  # as in safetensors' own errors


class WriteError(UserError):
    """The disk has no room or fails; what was there before is still there."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises WriteError where the disk under path is the reason that something in it fails."""
    try:
        yield
    except WriteError:
        raise
    except Exception as error:
        number = disk_error(error)
        if number is None:
            raise
        raise WriteError(f"cannot write {path}: {reason(number, path)}") from error


def disk_error(error: BaseException | None) -> int | None:
    """The number of the disk's error behind an error; libraries raise theirs while they handle it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in BY_THE_DISK:
            return error.errno
        found = NUMBER_OF_RUST.search(str(error))
        if found and int(found[1]) in BY_THE_DISK:
            return int(found[1])
        error = error.__context__
    return None


def reason(number: int, path: Path) -> str:
    no_room = number in NO_ROOM and not path.is_char_device()
    free = f", {size(free_bytes(path))} are free there" if no_room else ""
    return f"{os.strerror(number).lower()}{free}"


def free_bytes(path: Path) -> int:
    """On the disk that path is or will be on."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MiB"
