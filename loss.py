"""Criteria: objects the loop calls with (model, batch); what a loss needs beyond that it brings along.

A criterion returns the loss summed over its targets and their number, so that means over batches of any size are exact.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ROWS = 128  # of logits whose probabilities stay in a CPU's cache until they are a gradient


class CrossEntropy(torch.autograd.Function):
    """F.cross_entropy(reduction="sum") in float32, its gradient made on the way, a few rows at a time on a CPU.

    The matrix of probabilities is never whole in float32: half of the loss's memory and most of its time are saved.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """logits (N, V), targets (N,) -> nats, summed."""
        rows = ROWS if logits.device.type == "cpu" else len(logits)
        share, loss = label_smoothing / logits.shape[1], torch.zeros((), device=logits.device)  # of every token
        # fp16 has no room for a gradient that the scaler has not scaled yet
        kept = torch.float32 if logits.dtype == torch.float16 else logits.dtype
        gradient = torch.empty_like(logits, dtype=kept) if ctx.needs_input_grad[0] else None
        for start in range(0, len(logits), max(1, rows)):
            part, target = logits[start : start + rows], targets[start : start + rows, None]
            log_probs = part.float().log_softmax(-1)
            loss -= (1 - label_smoothing) * log_probs.gather(1, target).sum() + share * log_probs.sum()
            if gradient is not None:
                probs = log_probs.exp_().sub_(share)
                target_share = torch.full_like(target, label_smoothing - 1, dtype=probs.dtype)
                gradient[start : start + rows] = probs.scatter_add_(1, target, target_share)
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, scale: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * scale).to(ctx.dtype), None, None


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
        return CrossEntropy.apply(logits, targets, self.label_smoothing), len(targets)

    def record(self, mean: float) -> dict:
        """The mean over an epoch's tokens as its record calls it."""
        return {"train_loss": mean}
