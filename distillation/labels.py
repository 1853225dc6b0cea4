"""Distillation of image classifiers: losses between a student's logits and its teacher's, and criteria that use them.

    losses = soft_kl(student, teacher, targets, temperature=4)       # logits (B, C) each -> (B,) in nats
    criterion = LabelDistillLoss(teach, settings)                   # cross-entropy blended with DISTILL_LOSS
    criterion = LabelMomentumLoss(model, average, settings, progress, steps_per_epoch)

Those with a temperature are times its square, so that gradients stay as large as without it (Hinton et al. 2015, arXiv
1503.02531).
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from basics.devices import Batch
from basics.settings import Settings
from distillation.criteria import Average, Steps
from distillation.features import FEATURE_LOSS, FeatureLoss, module_names, width_of
from distillation.label_teacher import LabelTeacher
from losses.labels import LabelLoss
from networks.classifier import ImageClassifier
from networks.encoder import ImageProcessor, prepare_pixels
from networks.hooks import ActivationHooks

Teach = Callable[[Batch], Tensor]  # batch -> the teacher's logits (B, C) of its pictures, over the student's classes
LogitLoss = Callable[[Tensor, Tensor, Tensor], Tensor]  # logits of both (B, C), targets -> losses (B,)


def soft_kl(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """KL from the teacher's softened probabilities to the student's."""
    log_q, log_p = ((logits / temperature).log_softmax(-1) for logits in (student, teacher))
    return temperature**2 * F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


def decoupled_kl(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, beta: float) -> Tensor:
    """The same KL in two parts (Zhao et al. 2022, arXiv 2203.08679): is it the class, and which of the others.

    The plain KL weighs the second part by the teacher's doubt; here it always counts beta times.
    """
    log_q, log_p = ((logits / temperature).log_softmax(-1) for logits in (student, teacher))
    right = F.one_hot(targets, student.shape[-1]).bool()
    binary_q, binary_p = (
        torch.stack([log[right], log.masked_fill(right, -torch.inf).logsumexp(-1)], -1) for log in (log_q, log_p)
    )
    target_part = F.kl_div(binary_q, binary_p, reduction="none", log_target=True).sum(-1)
    others_q, others_p = (log[~right].unflatten(0, (len(log), -1)).log_softmax(-1) for log in (log_q, log_p))
    other_part = F.kl_div(others_q, others_p, reduction="none", log_target=True).sum(-1)
    return temperature**2 * (target_part + beta * other_part)


def hard_labels(student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of what the teacher takes for the class (DeiT, Touvron et al. 2021, arXiv 2012.12877)."""
    return F.cross_entropy(student, teacher.argmax(-1), reduction="none")


def standardized(logits: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over the classes: a student need not copy how large its teacher's logits are (Sun et al.
    2024, arXiv 2403.01427).
    """
    return (logits - logits.mean(-1, keepdim=True)) / logits.std(-1, keepdim=True).clamp_min(1e-7)


def logit_loss(settings: Settings) -> LogitLoss:
    """What DISTILL_LOSS and the settings beside it ask for."""
    temperature = settings.DISTILL_TEMPERATURE
    losses: dict[str, LogitLoss] = {
        "kl": partial(soft_kl, temperature=temperature),
        "decoupled": partial(decoupled_kl, temperature=temperature, beta=settings.DISTILL_BETA),
        "hard": hard_labels,
    }
    chosen = losses[settings.DISTILL_LOSS]
    if not settings.DISTILL_STANDARDIZE or settings.DISTILL_LOSS == "hard":
        return chosen
    return lambda student, teacher, targets: chosen(standardized(student), standardized(teacher), targets)


class LabelDistillLoss(LabelLoss):
    """Cross-entropy blended with DISTILL_LOSS; `teach` gives the teacher's logits of a batch."""

    def __init__(self, teach: Teach, settings: Settings):
        super().__init__(settings.LABEL_SMOOTHING)
        self.teach, self.loss, self.alpha = teach, logit_loss(settings), settings.DISTILL_ALPHA

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        teacher = self.teach(batch).float()  # first: an average of the weights borrows the model
        logits = model(batch["images"]).float()
        losses = self.losses(logits, batch).lerp(self.loss(logits, teacher, batch["targets"]), self.share())
        return (losses * batch["target_mask"]).sum(), self.count(batch)

    def share(self) -> float:
        """Of the teacher in the loss."""
        return self.alpha


class LabelMomentumLoss(LabelDistillLoss):
    """The teacher is the moving average of the weights, whose share grows over the first epoch, as in MomentumLoss."""

    def __init__(self, model: nn.Module, average: Average, settings: Settings, progress: Steps, steps_per_epoch: int):
        super().__init__(self.predict, settings)
        self.model, self.average, self.progress, self.steps = model, average, progress, steps_per_epoch

    def share(self) -> float:
        return self.alpha * min(1.0, self.progress.global_step / self.steps)

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        with self.average.applied(self.model):
            self.model.eval()
            logits: Tensor = self.model(batch["images"])
            self.model.train()
        torch.clear_autocast_cache()  # as in MomentumLoss
        return logits


@torch.no_grad()
def add_label_feature_loss(
    model: ImageClassifier, image_processor: ImageProcessor, teacher: LabelTeacher, settings: Settings
) -> None:
    """Give a model that is being made its projector. Raises UserError for modules that do not fit."""
    blank, (ours, theirs) = [Image.new("RGB", (64, 64))] * 2, module_names(settings)
    was_training = model.training
    model.eval()
    with ActivationHooks(model, [ours]) as mine, ActivationHooks(teacher.model, [theirs]) as its:
        model(prepare_pixels(image_processor, blank).to(model.device))
        teacher.logits(prepare_pixels(teacher.image_processor, blank).to(model.device))
        widths = [width_of(found, name) for found, name in ((mine, ours), (its, theirs))]
    model.train(was_training)
    model.training_only[FEATURE_LOSS] = FeatureLoss(*widths).to(model.device)


class LabelFeatureLoss:
    """The criterion `inner` and, with DISTILL_FEATURE_WEIGHT, FeatureLoss between both modules on the same crops."""

    def __init__(self, inner: LabelLoss, model: ImageClassifier, teacher: LabelTeacher, settings: Settings):
        self.inner, self.name, self.count, self.record = inner, inner.name, inner.count, inner.record
        self.model, self.teacher = model, teacher
        self.names, self.weight = module_names(settings), settings.DISTILL_FEATURE_WEIGHT

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        ours, theirs = self.names
        with ActivationHooks(self.model, [ours]) as mine, ActivationHooks(self.teacher.model, [theirs]) as its:
            loss, count = self.inner(model, batch)
            if theirs not in its:  # predictions made along have run the teacher over these very crops
                self.teacher.logits(batch["teacher_images"])
            pulls = self.model.training_only[FEATURE_LOSS](mine[ours], its[theirs])  # (B,)
        return loss + self.weight * (pulls * batch["target_mask"]).sum(), count
