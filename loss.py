"""Criteria: objects the loop calls with (model, batch); what a loss needs beyond that it brings along.

A criterion returns the loss summed over its targets and their number, so that means over batches of any size are exact.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class CaptionLoss:
    """Cross-entropy of the next caption token in nats, with label smoothing (Szegedy et al. 2016, arXiv 1512.00567)."""

    name = "loss"

    def __init__(self, label_smoothing: float = 0.0):
        self.label_smoothing = label_smoothing

    def __call__(self, model: nn.Module, batch: dict) -> tuple[Tensor, int]:
        """batch of dataset.collate_fn -> (loss summed over the N real target tokens, N)."""
        mask = batch["target_mask"]
        logits = model(batch["images"], batch["decoder_input_tokens"], batch["image_index"], mask)  # (N, V)
        targets = batch["target_tokens"][mask]  # (N,)
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=self.label_smoothing, reduction="sum")
        return loss, len(targets)

    def record(self, mean: float) -> dict:
        """The mean over an epoch's tokens as its record calls it."""
        return {"train_loss": mean}
