"""Criteria: objects the loop calls with (model, batch); what a loss needs beyond that it brings along.

A criterion returns the loss summed over its targets and their number, so that means over batches of any size are exact.
Losses over rows of logits are functions (logits (n, V), rows) -> (loss of each row (n,), its gradient (n, V)): RowLoss
feeds them the matrix of logits a few rows at a time.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ROWS = 128  # of logits whose probabilities stay in a CPU's cache until they are a gradient


class RowLoss(torch.autograd.Function):
    """A loss of rows of logits in float32, summed, its gradient made on the way, a few rows at a time on a CPU.

    The matrix of probabilities is never whole in float32: half of the loss's memory and most of its time are saved.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, loss_of_rows: Callable) -> Tensor:
        """logits (N, V) -> nats, summed."""
        rows = ROWS if logits.device.type == "cpu" else len(logits)
        loss = torch.zeros((), device=logits.device)
        # fp16 has no room for a gradient that the scaler has not scaled yet
        kept = torch.float32 if logits.dtype == torch.float16 else logits.dtype
        gradient = torch.empty_like(logits, dtype=kept) if ctx.needs_input_grad[0] else None
        for start in range(0, len(logits), max(1, rows)):
            part = slice(start, start + rows)
            losses, gradients = loss_of_rows(logits[part].float(), part)
            loss += losses.sum()
            if gradient is not None:
                gradient[part] = gradients
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, scale: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * scale).to(ctx.dtype), None


def cross_entropy(targets: Tensor, label_smoothing: float) -> Callable:
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

    def __call__(self, model: nn.Module, batch: dict) -> tuple[Tensor, int]:
        """batch of dataset.collate_fn -> (loss summed over the N real target tokens, N)."""
        targets = batch["target_tokens"][batch["target_mask"]]  # (N,)
        loss_of_rows = self.taught(cross_entropy(targets, self.label_smoothing), model, batch)
        return RowLoss.apply(caption_logits(model, batch), loss_of_rows), len(targets)

    def taught(self, plain: Callable, model: nn.Module, batch: dict) -> Callable:
        """The loss of rows of logits: plain cross-entropy, which a teacher's criterion blends with more."""
        return plain

    def record(self, mean: float) -> dict:
        """The mean over an epoch's tokens as its record calls it."""
        return {"train_loss": mean}


def caption_logits(model: nn.Module, batch: dict) -> Tensor:
    """batch of dataset.collate_fn -> logits (N, V) of its real targets."""
    return model(batch["images"], batch["decoder_input_tokens"], batch["image_index"], batch["target_mask"])
