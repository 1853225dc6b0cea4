"""The door to data: what training reads, batch by batch."""

from collections.abc import Iterator
from typing import Protocol

from basics.devices import Batch


class Source(Protocol):
    """The examples of one split, in an order that depends on seed and epoch alone.

    So a position in an epoch is the number of batches read, whatever the number of workers and of processes, each of
    which reads its share of every batch, and a run can go on there.
    """

    batch_size: int  # examples of all batches but the last, over all processes

    @property
    def num_examples(self) -> int:
        """Of an epoch, known before the first batch is read."""
        ...

    @property
    def order(self) -> str:
        """A fingerprint of the examples and their places: with another a position in an epoch means something else."""
        ...

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """This process's shares of an epoch's batches after the first `start`; as many as there are batches."""
        ...
