"""Cross-entropy of the next caption token, the criterion of most epochs."""

import torch
from torch import Tensor, nn

from basics.devices import Batch
from losses.row_loss import LossOfRows, RowLoss


def cross_entropy(targets: Tensor, label_smoothing: float) -> LossOfRows:
    """F.cross_entropy against targets (N,), for RowLoss."""

    def loss_of_rows(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        target, share = targets[rows, None], label_smoothing / logits.shape[1]  # share of every token
        log_probs = logits.log_softmax(-1)
        losses = (label_smoothing - 1) * log_probs.gather(1, target)[:, 0] - share * log_probs.sum(1)
        gradients = log_probs.exp_().sub_(share)
        target_share = torch.full_like(target, label_smoothing - 1, dtype=gradients.dtype)
        return losses, gradients.scatter_add_(1, target, target_share)

    return loss_of_rows


class CaptionLoss:
    """Cross-entropy of the next caption token in nats, with label smoothing (Szegedy et al. 2016, arXiv 1512.00567)."""

    name = "loss"

    def __init__(self, label_smoothing: float = 0.0):
        self.label_smoothing = label_smoothing

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        """batch of dataset.collate_fn -> (loss summed over the N real target tokens, N)."""
        targets = batch["target_tokens"][batch["target_mask"]]  # (N,)
        loss_of_rows = self.loss_of_rows(cross_entropy(targets, self.label_smoothing), batch)
        return RowLoss.apply(caption_logits(model, batch), loss_of_rows), len(targets)

    def count(self, batch: Batch) -> int:
        return int(batch["target_mask"].sum())

    def loss_of_rows(self, plain: LossOfRows, batch: Batch) -> LossOfRows:
        """Plain cross-entropy; a teacher's criterion blends more into it."""
        return plain

    def record(self, mean: float) -> dict[str, float | None]:
        """The mean over an epoch's tokens as its record calls it."""
        return {"train_loss": mean}


def caption_logits(model: nn.Module, batch: Batch) -> Tensor:
    """batch of dataset.collate_fn -> logits (N, V) of its real targets."""
    return model(batch["images"], batch["decoder_input_tokens"], batch.get("image_index"), batch["target_mask"])
