"""The door to data: what training reads, batch by batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from basics.devices import Batch


@dataclass(frozen=True)
class Share:
    """The part of the work that is this process's: the `index`-th of `count`, from 0."""

    index: int = 0
    count: int = 1


class Source(Protocol):
    """The examples of one split, in an order that depends on seed and epoch alone.

    So a position in an epoch is the number of batches read, whatever the number of workers, and a run can go on there.
    """

    batch_size: int  # examples of all batches but the last

    @property
    def num_examples(self) -> int:
        """Of an epoch, known before the first batch is read."""
        ...

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch after the first `start`."""
        ...
