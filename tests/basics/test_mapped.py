"""Packed rows come back as they were given, from a file as from memory, and a file of them is mapped, not held."""

import pickle

import numpy as np
import pytest

from basics import mapped
from basics.mapped import BYTE, Joined, Mapped, PackedRows, packed

ROWS = [[1, 7, 2], [], [65_535], [3] * 40, [1, 2], [9], []]


@pytest.fixture(params=[2, 7, 100])
def rows_a_piece(request, monkeypatch):
    monkeypatch.setattr(mapped, "ROWS_A_PIECE", request.param)


def in_file(path, rows, dtype):
    path.write_bytes(b"".join(content for _, content in packed(rows, dtype)))
    return PackedRows(Mapped(path, BYTE), len(rows), dtype)


@pytest.mark.parametrize("kind", ["<u2", "<u4"])
@pytest.mark.parametrize("rows", [ROWS, ROWS[:4], []])
def test_rows_come_back_from_a_file_and_from_memory(tmp_path, rows_a_piece, kind, rows):
    dtype = np.dtype(kind)
    for found in (in_file(tmp_path / "rows", rows, dtype), PackedRows.in_memory(rows, dtype)):
        assert len(found) == len(rows) and [row.tolist() for row in found] == rows
        assert all(row.dtype == np.int32 and row.flags.writeable for row in found)
        assert [row.tolist() for row in found[1:3]] == rows[1:3]


def test_a_number_takes_the_bytes_of_its_type_and_a_row_four(tmp_path):
    in_file(tmp_path / "rows", ROWS, np.dtype("<u2"))
    assert (tmp_path / "rows").stat().st_size == 4 * len(ROWS) + 2 * sum(map(len, ROWS))


def test_a_number_that_its_type_does_not_hold_is_refused():
    with pytest.raises(OverflowError):
        PackedRows.in_memory([[70_000]], np.dtype("<u2"))


def test_another_process_opens_the_file_itself(tmp_path):
    rows = in_file(tmp_path / "rows", [[5] * 10_000], np.dtype("<u2"))
    assert rows[0].sum() == 50_000
    sent = pickle.dumps(rows)
    assert len(sent) < 1000 and pickle.loads(sent)[0].tolist() == rows[0].tolist()


def test_two_sequences_are_joined_without_a_copy():
    joined = Joined(["a", "b"], ["c"])
    assert [*joined] == ["a", "b", "c"] == joined[:] and joined[-1] == "c" and joined[1:3] == ["b", "c"]
