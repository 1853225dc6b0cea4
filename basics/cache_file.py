"""Files of results that took long to make: resumable while they grow, checked when they are opened, never stale.

    cache = CacheFile(folder / "train", inputs)             # named by all that the content depends on
    note = cache.make(total, num_bytes, produce, ...)       # produce(done) yields (number of items, their bytes)
    cache.path                                              # folder/train-0123456789ab.bin
    note = cache.make_together(processes, total, ...)       # produce(done, stop), by each process a part

Beside it lies the note, a .json of its checksum, its inputs and what about() finds. A stopped build goes on where it
was; a second process waits for the first, then finds the file.
"""

import glob
import hashlib
import json
import mmap
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

from basics.disk import free_bytes, size
from basics.errors import UserError
from basics.files import write_atomically
from basics.launched import Share
from basics.locks import locked
from basics.progress_bar import progress_bar, skip
from basics.stored import COUNT, check, json_of

BLOCK = 2**26  # bytes read at once for a checksum
NOTE_EVERY = 5.0  # seconds of work that a kill can lose
WHOLE = {"crc32": COUNT, "inputs?": str, "note_crc32?": COUNT}  # what notes hold: of a whole file
PART = {"done": COUNT, "bytes": COUNT, "crc32": COUNT, "note_crc32?": COUNT}  # and of one in the making

Produce = Callable[[int], Iterator[tuple[int, bytes]]]  # from so many items on: a number of items and their bytes
About = Callable[[], dict[str, Any]]
Item = TypeVar("Item")


class Together(Protocol):
    """Processes that make a file together."""

    @property
    def here(self) -> Share:
        """Which of those that share this machine's disks this is."""
        ...

    @property
    def is_main(self) -> bool: ...

    def wait(self) -> None:
        """Until all have come as far."""
        ...

    def from_main(self, value: Item) -> Item:
        """The main process's value."""
        ...


class CacheFile:
    """One file; inputs: plain types, all that decides its content, so that any other value of one is another file."""

    def __init__(self, stem: Path, inputs: dict[str, Any], suffix: str = ".bin"):
        self.inputs = json.dumps(inputs, sort_keys=True)
        self.path = stem.with_name(f"{stem.name}-{hashlib.sha256(self.inputs.encode()).hexdigest()[:12]}{suffix}")

    def bytes_there(self) -> int:
        """Of the file, or of what a stopped build left of it, checked or not."""
        found = [path for path in (self.path, self.path.with_suffix(".part")) if path.is_file()]
        return found[0].stat().st_size if found else 0

    def make(
        self, total: int, num_bytes: int, produce: Produce, bar: str | tqdm, about: About = dict, advice: str = ""
    ) -> dict[str, Any]:
        """Make the file of so many pictures where it is not there and whole -> its note; about() is asked at the end.

        bar: the name of its progress bar, or one that counts the pictures of several files.
        Raises UserError where the disk has no room for num_bytes (advice says what else could be done), and for a file
        under this name that was made from something else.
        """
        with locked(self.path.with_suffix(".lock")):
            if not is_whole(self.path):
                build(self, total, num_bytes, produce, bar, about, advice)
            note = read_note(self.path.with_suffix(".json"), WHOLE)
        assert note is not None, f"{self.path} has just been made"
        if note.get("inputs", self.inputs) != self.inputs:
            raise UserError(f"{self.path} was made from other inputs than its name says; delete it to make it anew")
        return note

    def make_together(
        self,
        processes: Together,
        total: int,
        num_bytes: int,
        produce: Callable[[int, int], Iterator[tuple[int, bytes]]],
        desc: str,
        about: About = dict,
        advice: str = "",
    ) -> dict[str, Any]:
        """make() by all processes of a machine: each makes a part of the items, the first joins them.

        For a moment the disk holds it twice. Raises UserError as make() does, before any work.
        """

        def make_of(produce: Produce) -> dict[str, Any]:
            return self.make(total, num_bytes, produce, desc, about, advice)

        def alone() -> dict[str, Any]:
            return make_of(lambda done: produce(done, total))

        here = processes.here
        if processes.from_main(here.count > 1 and not self.path.is_file()):  # all see the same
            bounds = [total * number // here.count for number in range(here.count + 1)]
            parts = [
                self.part(f"part {number + 1} of {here.count}", *items) for number, items in enumerate(pairwise(bounds))
            ]
            check_space(self.path.parent, 2 * num_bytes - sum(part.bytes_there() for part in parts), advice)
            start, stop = bounds[here.index], bounds[here.index + 1]
            mine, name = parts[here.index], f"{desc}, a part of {here.count}"
            mine.make(
                stop - start, num_bytes // here.count, lambda done: produce(start + done, stop), name, advice=advice
            )
            processes.wait()
            if here.index == 0:
                self.forget(".part*")  # begun by one process, or of other parts
                make_of(lambda _: concatenated(parts, bounds))
                self.forget(", part *")  # of other numbers of processes too
            processes.wait()
        note = processes.from_main(alone() if processes.is_main else {})
        return note if self.path.is_file() else alone()  # on a disk of another machine

    def part(self, name: str, start: int, stop: int) -> "CacheFile":
        inputs = {"of": self.inputs, "items": [start, stop]}
        return CacheFile(self.path.with_name(f"{self.path.stem}, {name}"), inputs, self.path.suffix)

    def forget(self, ending: str) -> None:
        """Remove the files beside it whose names begin as its own and go on like this."""
        for left in self.path.parent.glob(glob.escape(self.path.stem) + ending):
            left.unlink(missing_ok=True)


def concatenated(parts: list[CacheFile], bounds: list[int]) -> Iterator[tuple[int, Any]]:
    """The items of each part and their bytes; mapped, as they may be large."""
    for part, (start, stop) in zip(parts, pairwise(bounds)):
        if part.path.stat().st_size:
            with open(part.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                yield stop - start, content


def write_note(path: Path, note: dict[str, Any]) -> None:
    write_atomically(path, json.dumps({**note, "note_crc32": crc32_of(note)}))


def read_note(path: Path, pattern: dict[str, Any]) -> dict[str, Any] | None:
    """What was noted; None where nothing was, or where the note is damaged, which is said."""
    if not path.is_file():
        return None
    try:
        note: dict[str, Any] = json_of(path)
        check(note, pattern, path.name)
        if note.pop("note_crc32", None) not in (None, crc32_of(note)):  # older notes have none of their own
            raise ValueError(f"{path.name} has a wrong checksum")
    except ValueError as error:
        print(f"cache        {path} is damaged ({error})")
        return None
    return note


def crc32_of(note: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(note, sort_keys=True).encode())


def is_whole(path: Path) -> bool:
    """Whether the file is there and its checksum right; what is damaged is named and removed."""
    if not path.is_file():
        return False
    note = read_note(path.with_suffix(".json"), WHOLE)
    if note is not None and note["crc32"] == checksum(path):
        return True
    if note is not None:
        print(f"cache        {path} is damaged and made anew")
        path.unlink()
    return False


def checksum(path: Path, num_bytes: int | None = None) -> int:
    """Of the whole file, or of so many bytes from its start, as far as they are there."""
    value, left = 0, os.path.getsize(path) if num_bytes is None else num_bytes
    with open(path, "rb") as file:
        while block := file.read(min(BLOCK, left)):
            value, left = zlib.crc32(block, value), left - len(block)
    return value


def state_of_part(part: Path, total: int) -> dict[str, Any]:
    """How much of a file in the making is there and checked; what is not as its note says is named and begun anew."""
    nothing = {"done": 0, "bytes": 0, "crc32": 0}
    note = read_note(part.with_suffix(".part.json"), PART) if part.is_file() else None
    if note is None or not note["done"]:
        return nothing
    there = part.stat().st_size
    if note["done"] <= total and note["bytes"] <= there and checksum(part, note["bytes"]) == note["crc32"]:
        return note
    print(f"cache        {part} is not as its note says ({there:,} bytes of {note['bytes']:,}) and begun anew")
    return nothing


@contextmanager
def named_or_shared(bar: str | tqdm, total: int) -> Iterator[tqdm]:
    """A bar of this name, or the one that is there, which stays open."""
    if isinstance(bar, str):
        with progress_bar(total=total, desc=bar, unit=" pictures") as named:
            yield named
    else:
        yield bar


def build(
    cache: CacheFile, total: int, num_bytes: int, produce: Produce, bar: str | tqdm, about: About, advice: str
) -> None:
    """Make what is missing. A stop loses at most NOTE_EVERY seconds: the note says how much of the file counts."""
    path = cache.path
    part, note = path.with_suffix(".part"), path.with_suffix(".part.json")
    state = state_of_part(part, total)
    check_space(part.parent, num_bytes - state["bytes"], advice)
    with open(part, "r+b" if state["done"] else "wb") as file, named_or_shared(bar, total) as counted:
        skip(counted, state["done"])
        file.seek(state["bytes"])
        noted = time.monotonic()
        for count, content in produce(state["done"]):
            file.write(content)
            state = {
                "done": state["done"] + count,
                "bytes": state["bytes"] + len(content),
                "crc32": zlib.crc32(content, state["crc32"]),
            }
            counted.update(count)
            if time.monotonic() - noted > NOTE_EVERY:
                file.flush()
                os.fsync(file.fileno())
                write_note(note, state)
                noted = time.monotonic()
        file.truncate()
    write_note(path.with_suffix(".json"), {"crc32": state["crc32"], "inputs": cache.inputs, **about()})
    os.replace(part, path)
    note.unlink(missing_ok=True)


def check_space(folder: Path, needed: int, advice: str = "") -> None:
    free = free_bytes(folder)
    if needed > free:
        raise UserError(
            f"the cache needs {size(needed)} in {folder}, where {size(free)} are free; make room, name another "
            f"DATA_DIR{advice}"
        )
