"""Distillation: losses that pull the captioner towards a teacher's predictions, and the criteria that use them.

    kd_loss(student, teacher, mask, temperature)                     # same vocabulary or labels: whole distributions
    kd_loss(student, teacher[:, match_labels(ours, theirs)])         # of image classes (id2label), whatever their order
    sparse_kl(logits, ids, probs, temperature)                       # the teacher's K likeliest tokens and a rest
    criterion = caption_criterion(run)                               # cross-entropy, alone or with a teacher

Hinton et al. 2015 (arXiv 1503.02531) with the rest kept as one event, so that equal distributions have no gradient
(renormalising the K likeliest would pull at them: arXiv 2503.16870).
"""

import math
from collections import Counter
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basics.errors import UserError
from losses.cross_entropy import CaptionLoss, RowLoss, caption_logits

TINY = 1e-37  # probability below which float32 has none


def kd_loss(student: Tensor, teacher: Tensor, mask: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """KL divergence of the teacher's distribution from the student's, logits (..., V) each, times temperature ** 2.

    The mean over rows where mask (...) holds, in nats; 0 where it holds nowhere. The teacher gets no gradient.
    """
    mask = torch.ones(student.shape[:-1], dtype=torch.bool, device=student.device) if mask is None else mask
    rows = student[mask]  # (N, V)
    return RowLoss.apply(rows, dense_kl(teacher.detach()[mask], temperature)) / max(1, len(rows))


def match_labels(student: dict[int, str], teacher: dict[int, str]) -> list[int]:
    """For each label of the student its place among the teacher's, both id2label as transformers has it.

    Raises UserError where the names are not the same, and where their order differs and a name is there twice (ImageNet
    has two classes "crane"): equal numbers would mean different things.
    """
    if student == teacher:
        return list(range(len(student)))
    places = {name: place for place, name in teacher.items()}
    if differ := Counter(student.values()) - Counter(teacher.values()) or set(places) - set(student.values()):
        raise UserError(
            f"student and teacher have different labels, {len(student)} and {len(teacher)}, {min(differ)!r} for one; "
            "expected a teacher trained on the same classes"
        )
    if len(places) < len(teacher):
        raise UserError("labels in another order cannot be matched by name: some names are there twice")
    return [places[student[place]] for place in range(len(student))]


def dense_kl(teacher: Tensor, temperature: float) -> Callable:
    """KL from the teacher's logits (N, V) over the same vocabulary, for loss.RowLoss."""

    def loss_of_rows(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        log_q = (logits / temperature).log_softmax(-1)
        log_p = (teacher[rows].float() / temperature).log_softmax(-1)
        losses = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
        return temperature**2 * losses, temperature * (log_q.exp() - log_p.exp())

    return loss_of_rows


def sparse_kl(logits: Tensor, ids: Tensor, probs: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
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


def blend(plain: Callable, teaching: Callable, weights: Tensor) -> Callable:
    """(1 - weight) of one loss and weight of the other for each row, weights (N,), for loss.RowLoss."""

    def loss_of_rows(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        weight = weights[rows]
        (losses, gradients), (more, pull) = plain(logits, rows), teaching(logits, rows)
        return losses.lerp(more, weight), gradients.lerp_(pull, weight[:, None])

    return loss_of_rows


class DistillLoss(CaptionLoss):
    """Cross-entropy blended with the KL of a teacher's predictions; `targets` gives those of a batch."""

    def __init__(self, targets: Callable, settings):
        super().__init__(settings.LABEL_SMOOTHING)
        self.targets, self.alpha, self.temperature = targets, settings.DISTILL_ALPHA, settings.DISTILL_TEMPERATURE

    def taught(self, plain: Callable, model: nn.Module, batch: dict) -> Callable:
        ids, probs, supervised = self.targets(batch)  # (N, K), (N, K), (N,)
        return blend(
            plain,
            lambda logits, rows: sparse_kl(logits, ids[rows], probs[rows], self.temperature),
            self.alpha * supervised,
        )


class MomentumLoss(CaptionLoss):
    """Momentum distillation (Li et al. 2021, arXiv 2107.07651): the teacher is the moving average of the weights.

    Its share grows over the first epoch from 0 to DISTILL_ALPHA. The average is that of EMA_DECAY, so a checkpoint
    holds all there is; it predicts without dropout.
    """

    def __init__(self, average, settings, progress, steps_per_epoch: int):
        super().__init__(settings.LABEL_SMOOTHING)
        self.average, self.settings, self.progress, self.steps = average, settings, progress, steps_per_epoch

    @property
    def alpha(self) -> float:
        return self.settings.DISTILL_ALPHA * min(1.0, self.progress.global_step / self.steps)

    def __call__(self, model: nn.Module, batch: dict) -> tuple[Tensor, int]:
        return super().__call__(model, encoded(model, batch))

    def taught(self, plain: Callable, model: nn.Module, batch: dict) -> Callable:
        teacher = self.predict(model, batch)  # (N, V)
        shares = torch.full((len(teacher),), self.alpha, device=teacher.device)
        return blend(plain, dense_kl(teacher, self.settings.DISTILL_TEMPERATURE), shares)

    @torch.no_grad()
    def predict(self, model: nn.Module, batch: dict) -> Tensor:
        with self.average.applied(model):
            model.eval()
            logits = caption_logits(model, batch)
            model.train()
        torch.clear_autocast_cache()  # it knows parameters by object: the student would read the average's 16 bits
        return logits


@torch.no_grad()
def encoded(model: nn.Module, batch: dict) -> dict:
    """The batch with what a frozen encoder makes of its pictures, so that two forward passes need it once."""
    if batch["images"].ndim == 3 or any(parameter.requires_grad for parameter in model.encoder.parameters()):
        return batch
    return {**batch, "images": model.encoder(batch["images"])}


def caption_criterion(run):
    """The criterion of NUM_EPOCHS: cross-entropy, alone or with what a teacher predicts."""
    settings = run.settings
    if settings.DISTILL == "momentum":
        steps = math.ceil(run.progress.num_pairs / settings.BATCH_SIZE / settings.GRADIENT_ACCUMULATION_STEPS)
        return MomentumLoss(run.average, settings, run.progress, steps)
    if run.teaching is None:
        return CaptionLoss(settings.LABEL_SMOOTHING)
    criterion = (
        DistillLoss(run.teaching.targets, settings) if settings.DISTILL_ALPHA else CaptionLoss(settings.LABEL_SMOOTHING)
    )
    if settings.DISTILL_FEATURES:
        from distillation.feature_distill import FeatureDistillLoss

        return FeatureDistillLoss(criterion, run.teaching, settings)
    return criterion
