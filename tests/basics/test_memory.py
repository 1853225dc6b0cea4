"""How a process keeps its memory."""

import pytest

from basics.memory import LARGEST_OF_OLD, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, keep_blocks


@pytest.mark.parametrize("most, trimmed", [(2**40, True), (LARGEST_OF_OLD, True), (0, False)])
def test_memory_is_kept_only_where_large_blocks_can_be(most, trimmed):
    """glibc alone would map and unmap all blocks above 128 kB where the first is refused and the second is not."""
    accepted = []

    def mallopt(option, value):
        if option == M_MMAP_THRESHOLD and value > most:
            return 0
        accepted.append(option)
        return 1

    keep_blocks(mallopt)
    assert (M_TRIM_THRESHOLD in accepted) == (M_MMAP_THRESHOLD in accepted) == trimmed
