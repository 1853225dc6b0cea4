"""The door to criteria: what training makes smaller, as objects that the loop calls with the model and a batch."""

from typing import Protocol

import torch
from torch import Tensor, nn

from basics.devices import Batch


def targets_of_images(batch: Batch) -> Tensor:
    """How many targets the captions of each image have, (U,): what a loss of images weighs them by.

    Then a mean over targets stays what it is however a batch is split, between the captions of an image too.
    """
    targets, U = batch["target_mask"].sum(1), len(batch["images"])
    if "image_index" not in batch:
        return targets.view(U, -1).sum(1)
    return torch.zeros(U, dtype=targets.dtype, device=targets.device).index_add_(0, batch["image_index"], targets)


class Criterion(Protocol):
    """A loss summed over its targets and their number, so that means over batches of any size are exact.

    It reaches the model it is called with through forward() alone, which may be wrapped for several processes; what it
    needs of the bare model, of a teacher or of the run it is given when it is made.
    """

    name: str  # of its mean over a step, for the bar and the tracker

    def count(self, batch: Batch) -> int:
        """The targets of a batch, known before the model runs: what its loss will be divided by."""
        ...

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        """-> the loss summed over the batch's targets, and count(batch)."""
        ...

    def record(self, mean: float) -> dict[str, float | None]:
        """The mean over an epoch's targets as the epoch's record calls it; "train_loss" is always there."""
        ...
