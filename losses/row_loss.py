"""Losses of rows of logits, whose gradient is made on the way.

A loss of rows is a function (logits (n, V), rows) -> (loss of each row (n,), its gradient (n, V)); RowLoss feeds it the
matrix of logits a few rows at a time.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 128  # of logits whose probabilities stay in a CPU's cache until they are a gradient
LossOfRows = Callable[[Tensor, slice], tuple[Tensor, Tensor]]


class RowLoss(torch.autograd.Function):
    """A loss of rows of logits in float32, summed, its gradient made on the way, a few rows at a time on a CPU.

    The matrix of probabilities is never whole in float32: half of the loss's memory and most of its time are saved.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, loss_of_rows: LossOfRows) -> Tensor:
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
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * scale).to(ctx.dtype), None
