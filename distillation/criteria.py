"""Distillation: losses that pull the captioner towards a teacher's predictions, and the criteria that use them.

    sparse_kl(logits, ids, probs, temperature)              # the teacher's K likeliest tokens and a rest
    criterion = DistillLoss(soft_targets, settings)         # cross-entropy blended with that
    criterion = MomentumLoss(model, average, settings, progress, steps_per_epoch)

Hinton et al. 2015 (arXiv 1503.02531) with the rest kept as one event, so that equal distributions have no gradient
(renormalising the K likeliest would pull at them: arXiv 2503.16870).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basics.devices import Batch
from basics.settings import Settings
from losses.cross_entropy import CaptionLoss, caption_logits
from losses.row_loss import LossOfRows
from model import ImageToTextModel

TINY = 1e-37  # probability below which float32 has none
SoftTargets = Callable[[Batch], tuple[Tensor, Tensor, Tensor]]  # batch -> ids (N, K), probs (N, K), supervised (N,)


def dense_kl(teacher: Tensor, temperature: float) -> LossOfRows:
    """KL from the teacher's logits (N, V) over the same vocabulary, for row_loss.RowLoss."""

    def loss_of_rows(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        log_q = (logits / temperature).log_softmax(-1)
        log_p = (teacher[rows].float() / temperature).log_softmax(-1)
        losses = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
        return temperature**2 * losses, temperature * (log_q.exp() - log_p.exp())

    return loss_of_rows


def sparse_kl(logits: Tensor, ids: Tensor, probs: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """KL over K + 1 events: the tokens ids (n, K), all different, of mass probs (n, K), and all other tokens together.

    logits (n, V), float32 -> its value times temperature ** 2 (n,) in nats and its gradient (n, V). Raises ValueError
    where K leaves no other token.
    """
    if ids.shape[1] >= logits.shape[1]:
        raise ValueError(f"{ids.shape[1]} tokens are kept of {logits.shape[1]}: expected fewer, the rest is an event")
    log_q = (logits / temperature).log_softmax(-1)
    log_kept, rest = log_q.gather(1, ids), (1 - probs.sum(1)).clamp_min(0)
    others = log_q.exp_().scatter_(1, ids, 0.0)
    mass = others.sum(1).clamp_min(TINY)  # not 1 - the kept ones, which is lost in rounding
    losses = torch.xlogy(probs, probs).sum(1) - (probs * log_kept).sum(1)
    losses += torch.xlogy(rest, rest) - rest * mass.log()
    gradients = others.mul_((1 - rest / mass)[:, None]).scatter_(1, ids, log_kept.exp() - probs)
    return temperature**2 * losses, gradients.mul_(temperature)


def blend(plain: LossOfRows, towards_teacher: LossOfRows, weights: Tensor) -> LossOfRows:
    """(1 - weight) of one loss and weight of the other for each row, weights (N,), for row_loss.RowLoss."""

    def loss_of_rows(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        weight = weights[rows]
        (losses, gradients), (more, pull) = plain(logits, rows), towards_teacher(logits, rows)
        return losses.lerp(more, weight), gradients.lerp_(pull, weight[:, None])

    return loss_of_rows


class DistillLoss(CaptionLoss):
    """Cross-entropy blended with the KL of a teacher's predictions; `soft_targets` gives those of a batch."""

    def __init__(self, soft_targets: SoftTargets, settings: Settings):
        super().__init__(settings.LABEL_SMOOTHING)
        self.soft_targets = soft_targets
        self.alpha, self.temperature = settings.DISTILL_ALPHA, settings.DISTILL_TEMPERATURE

    def loss_of_rows(self, plain: LossOfRows, batch: Batch) -> LossOfRows:
        ids, probs, supervised = self.soft_targets(batch)  # (N, K), (N, K), (N,)
        return blend(
            plain,
            lambda logits, rows: sparse_kl(logits, ids[rows], probs[rows], self.temperature),
            self.alpha * supervised,
        )


class Average(Protocol):
    """The moving average of a model's weights, as training.ema.WeightAverage is one."""

    def applied(self, model: nn.Module) -> AbstractContextManager[None]:
        """Inside, the model has the averaged weights."""
        ...


class Steps(Protocol):
    """What tells how far a run is."""

    global_step: int


class MomentumLoss(CaptionLoss):
    """Momentum distillation (Li et al. 2021, arXiv 2107.07651): the teacher is the moving average of the weights.

    Its share grows over the first epoch from 0 to DISTILL_ALPHA. The average is that of EMA_DECAY, so a checkpoint
    holds all there is; it predicts without dropout.
    """

    def __init__(
        self, model: ImageToTextModel, average: Average, settings: Settings, progress: Steps, steps_per_epoch: int
    ):
        super().__init__(settings.LABEL_SMOOTHING)
        self.model, self.average, self.settings = model, average, settings
        self.progress, self.steps = progress, steps_per_epoch

    @property
    def alpha(self) -> float:
        return self.settings.DISTILL_ALPHA * min(1.0, self.progress.global_step / self.steps)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        return super().__call__(model, self.encoded(batch))

    def loss_of_rows(self, plain: LossOfRows, batch: Batch) -> LossOfRows:
        teacher = self.predict(batch)  # (N, V)
        shares = torch.full((len(teacher),), self.alpha, device=teacher.device)
        return blend(plain, dense_kl(teacher, self.settings.DISTILL_TEMPERATURE), shares)

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        with self.average.applied(self.model):
            self.model.eval()
            logits = caption_logits(self.model, batch)
            self.model.train()
        torch.clear_autocast_cache()  # it knows parameters by object: the student would read the average's 16 bits
        return logits

    @torch.no_grad()
    def encoded(self, batch: Batch) -> Batch:
        """The batch with what a frozen encoder makes of its pictures, so that two forward passes need it once."""
        encoder = self.model.encoder
        if batch["images"].ndim == 3 or any(parameter.requires_grad for parameter in encoder.parameters()):
            return batch
        return {**batch, "images": encoder(batch["images"])}
