"""What lies in files and is read where it is asked for: such data take no memory of the process, however many they are.

    Mapped(path, np.dtype("<u8")).values            # an array that the system reads page by page
    rows = PackedRows(Mapped(path, BYTE), num_rows, np.dtype("<u2"))
    rows[7]                                         # array([1, 265, 290, 2], dtype=int32)

Packed rows of whole numbers lie in pieces of ROWS_A_PIECE: where each row ends, counted in numbers from the piece's
first, then the numbers. Pieces can be appended to one another, so a file of them can be written as it grows
(cache_file.py).
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, TypeVar, overload

import numpy as np

BYTE, ROW_END = np.dtype("u1"), np.dtype("<u4")
ROWS_A_PIECE = 8192

T = TypeVar("T")


class Mapped:
    """A file as an array that the system reads page by page; opened again in another process."""

    def __init__(self, path: Path, dtype: np.dtype):
        self.path, self.dtype = path, dtype

    @cached_property
    def values(self) -> np.ndarray:
        if self.path.stat().st_size == 0:  # which cannot be mapped
            return np.empty(0, self.dtype)
        return np.asarray(np.memmap(self.path, self.dtype, "r"))

    def __len__(self) -> int:
        return self.path.stat().st_size // self.dtype.itemsize

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "dtype": self.dtype}  # the map itself stays in its process


class Made(Sequence[T]):
    """A sequence whose items are made where they are asked for."""

    @abstractmethod
    def made(self, number: int) -> T: ...

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        found = range(len(self))[place]
        return self.made(found) if isinstance(found, int) else [self.made(number) for number in found]


class Joined(Made[T]):
    """One sequence after another, without a copy of either."""

    def __init__(self, first: Sequence[T], second: Sequence[T]):
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def made(self, number: int) -> T:
        return self.first[number] if number < len(self.first) else self.second[number - len(self.first)]


class Bytes(Protocol):
    """A file or a piece of memory, as an array of bytes."""

    @property
    def values(self) -> np.ndarray: ...


@dataclass
class Held:
    """Bytes in memory."""

    values: np.ndarray


class PackedRows(Made[np.ndarray]):
    """Rows of whole numbers, each of the type `dtype` where it lies: 4 bytes a row beside its numbers."""

    def __init__(self, content: Bytes, num_rows: int, dtype: np.dtype):
        self.content, self.num_rows, self.dtype = content, num_rows, dtype

    @classmethod
    def in_memory(cls, rows: Iterable[Sequence[int]], dtype: np.dtype) -> "PackedRows":
        pieces = [*packed(rows, dtype)]
        content = np.frombuffer(b"".join(content for _, content in pieces), BYTE)
        return cls(Held(content), sum(count for count, _ in pieces), dtype)

    def __len__(self) -> int:
        return self.num_rows

    @cached_property
    def pieces(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Where the rows of each end, and its numbers: places in the content, which they share."""
        pieces, start = [], 0
        for first in range(0, self.num_rows, ROWS_A_PIECE):
            rows = min(ROWS_A_PIECE, self.num_rows - first)
            at = start + rows * ROW_END.itemsize
            ends = self.content.values[start:at].view(ROW_END)
            start = at + int(ends[-1]) * self.dtype.itemsize
            pieces.append((ends, self.content.values[at:start].view(self.dtype)))
        return pieces

    def made(self, number: int) -> np.ndarray:
        piece, row = divmod(number, ROWS_A_PIECE)
        ends, numbers = self.pieces[piece]
        return numbers[slice(*span(ends, row))].astype(np.int32)

    def __getstate__(self) -> dict[str, Any]:
        return {"content": self.content, "num_rows": self.num_rows, "dtype": self.dtype}


def packed(rows: Iterable[Sequence[int]], dtype: np.dtype) -> Iterator[tuple[int, bytes]]:
    """The pieces of PackedRows: how many rows, and their bytes."""
    left = iter(rows)
    while piece := [*islice(left, ROWS_A_PIECE)]:
        ends = np.cumsum([len(row) for row in piece], dtype=ROW_END)
        numbers = np.fromiter(chain.from_iterable(piece), dtype, int(ends[-1]))
        yield len(piece), ends.tobytes() + numbers.tobytes()


def span(ends: np.ndarray, number: int) -> tuple[int, int]:
    """Where an item begins and ends, of which the ends are known."""
    return int(ends[number - 1]) if number else 0, int(ends[number])
