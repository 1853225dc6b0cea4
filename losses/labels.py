"""Cross-entropy of a picture's class, the criterion of most epochs of TASK "classify"."""

import torch.nn.functional as F
from torch import Tensor, nn

from basics.devices import Batch


class LabelLoss:
    """Cross-entropy in nats, with label smoothing; targets may be shares of classes, as mixing makes them."""

    name = "loss"

    def __init__(self, label_smoothing: float = 0.0):
        self.label_smoothing = label_smoothing

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        """batch of training/labelled.py -> (loss summed over the pictures that count, their number)."""
        logits = model(batch["images"]).float()  # (B, C)
        return (self.losses(logits, batch) * batch["target_mask"]).sum(), self.count(batch)

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Of each picture, (B,)."""
        return F.cross_entropy(logits, batch["targets"], reduction="none", label_smoothing=self.label_smoothing)

    def count(self, batch: Batch) -> int:
        return int(batch["target_mask"].sum())

    def record(self, mean: float) -> dict[str, float | None]:
        return {"train_loss": mean}
