"""Files and folders that are whole or not there: written beside their place, flushed to disk, then renamed.

What is no regular file (a terminal, a pipe, /dev/null) is written to as it is, and a link to a file stays a link.
"""

import contextlib
import ctypes
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from basics.disk import writing

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux's renameat2: paths start at the working directory
RENAME_SWAP = 2  # of macOS's renamex_np
UNFINISHED = re.compile(r"\.(\d+)\.tmp$")

OPEN_FILES = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))  # where files that are open already have names
STREAMS = {"stdin": "0", "stdout": "1", "stderr": "2"}


@contextlib.contextmanager
def atomic_file(path: Path, buffering: int = -1) -> Iterator[BinaryIO]:
    """A file to write that replaces path when all went well; a crash at any moment leaves the old file or the new.

    buffering is open()'s. Raises WriteError where the disk is full or fails.
    """
    path = Path(path)
    if is_special(path):
        with writing(path), open_special(path) as file:
            yield file
        return
    path = Path(os.path.realpath(path))  # the file that a link leads to
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path, unfinished())
    try:
        with writing(path):
            with open(temporary, "wb", buffering) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def is_special(path: Path) -> bool:
    """Whether it is there and cannot be replaced: a device, a pipe, a folder, or a name of an open file."""
    return path.exists() and (not path.is_file() or path.parent in OPEN_FILES)


def open_special(path: Path) -> BinaryIO:
    """To write where it stands: a file behind /dev/stdout is neither cut nor read from its start again."""
    number = STREAMS.get(path.name, path.name)
    is_open = path.parent in OPEN_FILES and number.isdecimal()
    return open(os.dup(int(number)) if is_open else path, "wb")


def write_atomically(path: Path, content: str | bytes) -> None:
    with atomic_file(path) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, put in the place of an older one when all went well; else nothing of it is left.

    A whole folder has the name at every moment. Where the system cannot exchange two names, a kill may leave the older
    one as folder.old: whoever writes or reads next puts it back (recover_folder). Raises WriteError where the disk is
    full or fails.
    """
    recover_folder(folder)
    fresh, old = beside(folder, unfinished()), beside(folder, ".old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        with writing(folder):
            fresh.mkdir(parents=True)
            yield fresh
            put_in_place(fresh, folder)
            sync_folder(folder.parent)
    finally:
        recover_folder(folder)
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def put_in_place(fresh: Path, folder: Path) -> None:
    """Give fresh the name of folder; an older one is then called fresh, or folder.old."""
    if folder.exists():
        if exchange(fresh, folder):
            return
        os.replace(folder, beside(folder, ".old"))
    os.replace(fresh, folder)


def recover_folder(folder: Path) -> None:
    """Put folder.old back where a kill came between two renames, before the folder is read or written."""
    if not folder.exists() and (old := beside(folder, ".old")).is_dir():
        os.replace(old, folder)


def unfinished() -> str:
    """The ending of what this process has not finished: another process writes beside it under another name."""
    return f".{os.getpid()}.tmp"


def remove_leftovers(folder: Path) -> None:
    """What writers left unfinished that were killed; what a process that lives may be writing stays."""
    for path in folder.iterdir():
        if (found := UNFINISHED.search(path.name)) and not is_alive(int(found[1])):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's; no such number
        return True
    return True


def beside(path: Path, suffix: str) -> Path:
    return path.parent / (path.name + suffix)


def exchange(a: Path, b: Path) -> bool:
    """Give each of two paths the other's name in one step; False, and nothing done, where that cannot be."""
    library = ctypes.CDLL(None) if sys.platform in ("linux", "darwin") else None
    names = os.fsencode(a), os.fsencode(b)
    if rename := getattr(library, "renameat2", None):  # Linux
        return bool(rename(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0)
    if rename := getattr(library, "renamex_np", None):  # macOS
        return bool(rename(*names, RENAME_SWAP) == 0)
    return False


def file_hash(path: Path) -> str:
    """The SHA-256 of the file's content, in hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Flush a rename itself; Windows cannot open folders and needs no such thing."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
