"""The criteria of captioning, by name: a new one is a file with a Criterion, and a line in CRITERIA.

NUM_EPOCHS are trained with LOSS, or with what DISTILL names; SCST_EPOCHS with "self_critical".
"""

from collections.abc import Callable
from dataclasses import dataclass

from basics.errors import UserError
from basics.settings import Settings
from dataset import PairLoader
from distillation.criteria import DistillLoss, MomentumLoss, SoftTargets
from distillation.features import FeatureDistillLoss
from distillation.teacher import Teacher
from losses.criterion import Criterion
from losses.cross_entropy import CaptionLoss
from losses.self_critical import SelfCriticalLoss
from model import ImageToTextModel
from tokenizer import Tokenizer
from training.run import Run, steps_per_epoch


@dataclass(frozen=True)
class Ingredients:
    """What criteria are made of, besides the run: soft_targets and teacher are there where DISTILL needs them."""

    settings: Settings
    model: ImageToTextModel
    tokenizer: Tokenizer
    train: PairLoader
    soft_targets: SoftTargets | None = None
    teacher: Teacher | None = None


def plain(given: Ingredients, run: Run) -> Criterion:
    return CaptionLoss(given.settings.LABEL_SMOOTHING)


def towards_teacher(given: Ingredients, run: Run) -> Criterion:
    """Cross-entropy with the teacher's predictions in it, and its features beside it, as the settings ask for."""
    settings = given.settings
    inner = DistillLoss(given.soft_targets, settings) if given.soft_targets else plain(given, run)
    if given.teacher is None:
        return inner
    return FeatureDistillLoss(inner, given.model, given.teacher, given.train.dataset, settings)


def towards_average(given: Ingredients, run: Run) -> Criterion:
    steps = steps_per_epoch(given.train, given.settings)
    return MomentumLoss(given.model, run.average, given.settings, run.progress, steps)


def self_critical(given: Ingredients, run: Run) -> Criterion:
    return SelfCriticalLoss(given.model, given.train.dataset.references, given.tokenizer, given.settings)


CRITERIA: dict[str, Callable[[Ingredients, Run], Criterion]] = {
    "cross_entropy": plain,
    "teacher": towards_teacher,
    "momentum": towards_average,
    "self_critical": self_critical,
}


def check_loss(settings: Settings) -> None:
    """Raises UserError where LOSS is no criterion."""
    if settings.LOSS not in CRITERIA:
        raise UserError(f"LOSS must be one of {', '.join(map(repr, CRITERIA))}, got {settings.LOSS!r}")
