"""Files of results that took long to make: resumable while they grow, checked when they are opened, never stale.

    cache = CacheFile(folder / "train", inputs)             # named by all that the content depends on
    note = cache.make(total, num_bytes, produce, ...)       # produce(done) yields (number of items, their bytes)
    cache.path                                              # folder/train-0123456789ab.bin

Beside it lies the note, a .json of its checksum, its inputs and what about() finds. A stopped build goes on where it
was; a second process waits for the first, then finds the file.
"""

import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from basics.disk import free_bytes, size
from basics.errors import UserError
from basics.files import write_atomically
from basics.progress_bar import progress_bar

BLOCK = 2**26  # bytes read at once for a checksum
NOTE_EVERY = 5.0  # seconds of work that a kill can lose

Produce = Callable[[int], Iterator[tuple[int, bytes]]]  # from so many items on: a number of items and their bytes
About = Callable[[], dict[str, Any]]


class CacheFile:
    """One file; inputs: plain types, all that decides its content, so that any other value of one is another file."""

    def __init__(self, stem: Path, inputs: dict[str, Any], suffix: str = ".bin"):
        self.inputs = json.dumps(inputs, sort_keys=True)
        self.path = stem.with_name(f"{stem.name}-{hashlib.sha256(self.inputs.encode()).hexdigest()[:12]}{suffix}")

    def make(
        self, total: int, num_bytes: int, produce: Produce, desc: str, about: About = dict, advice: str = ""
    ) -> dict[str, Any]:
        """Make the file of so many pictures where it is not there and whole -> its note; about() is asked at the end.

        Raises UserError where the disk has no room for num_bytes (advice says what else could be done), and for a file
        under this name that was made from something else.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            if not is_whole(self.path):
                build(self, total, num_bytes, produce, desc, about, advice)
        note: dict[str, Any] = json.loads(self.path.with_suffix(".json").read_text(encoding="utf-8"))
        if note.get("inputs", self.inputs) != self.inputs:
            raise UserError(f"{self.path} was made from other inputs than its name says; delete it to make it anew")
        return note


def is_whole(path: Path) -> bool:
    """Whether the file is there and its checksum right; what is damaged is named and removed."""
    note = path.with_suffix(".json")
    if not (path.is_file() and note.is_file()):
        return False
    if json.loads(note.read_text(encoding="utf-8"))["crc32"] == checksum(path):
        return True
    print(f"cache        {path} is damaged and made anew")
    path.unlink()
    return False


def checksum(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            value = zlib.crc32(block, value)
    return value


def build(cache: CacheFile, total: int, num_bytes: int, produce: Produce, desc: str, about: About, advice: str) -> None:
    """Make what is missing. A stop loses at most NOTE_EVERY seconds: the note says how much of the file counts."""
    path = cache.path
    part, note = path.with_suffix(".part"), path.with_suffix(".part.json")
    state = {"done": 0, "bytes": 0, "crc32": 0}
    if part.is_file() and note.is_file() and "bytes" in (left := json.loads(note.read_text(encoding="utf-8"))):
        state = left
    check_space(part.parent, num_bytes - state["bytes"], advice)
    bar = progress_bar(total=total, initial=state["done"], desc=desc, unit=" pictures")
    with open(part, "r+b" if state["done"] else "wb") as file:
        file.seek(state["bytes"])
        noted = time.monotonic()
        for count, content in produce(state["done"]):
            file.write(content)
            state = {
                "done": state["done"] + count,
                "bytes": state["bytes"] + len(content),
                "crc32": zlib.crc32(content, state["crc32"]),
            }
            bar.update(count)
            if time.monotonic() - noted > NOTE_EVERY:
                file.flush()
                os.fsync(file.fileno())
                write_atomically(note, json.dumps(state))
                noted = time.monotonic()
        file.truncate()
    bar.close()
    note_of_whole = {"crc32": state["crc32"], "inputs": cache.inputs, **about()}
    write_atomically(path.with_suffix(".json"), json.dumps(note_of_whole))
    os.replace(part, path)
    note.unlink(missing_ok=True)


def check_space(folder: Path, needed: int, advice: str = "") -> None:
    free = free_bytes(folder)
    if needed > free:
        raise UserError(
            f"the cache needs {size(needed)} in {folder}, where {size(free)} are free; make room, name another "
            f"DATA_DIR{advice}"
        )
