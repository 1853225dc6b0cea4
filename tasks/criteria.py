"""Which criterion an epoch of captioning has: LOSS, what DISTILL names, or self-critical training.

A criterion of your own is a file with a Criterion, and a line in LOSSES.
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
    return SelfCriticalLoss(given.model, [*given.train.dataset.references], given.tokenizer, given.settings)


Maker = Callable[[Ingredients, Run], Criterion]
LOSSES: dict[str, Maker] = {"cross_entropy": plain}  # by LOSS
DISTILLATION: dict[str, Maker] = {"teacher": towards_teacher, "momentum": towards_average}  # by DISTILL


def criterion_of_epoch(given: Ingredients, run: Run) -> Criterion:
    """LOSS or DISTILL's for NUM_EPOCHS, then self-critical training."""
    settings = given.settings
    if run.progress.epoch >= settings.NUM_EPOCHS:
        return self_critical(given, run)
    return DISTILLATION[settings.DISTILL](given, run) if settings.DISTILL else LOSSES[settings.LOSS](given, run)


def check_loss(settings: Settings) -> None:
    """Raises UserError where LOSS is no criterion, or one that a teacher cannot be blended into."""
    if settings.LOSS not in LOSSES:
        raise UserError(f"LOSS must be one of {', '.join(map(repr, LOSSES))}, got {settings.LOSS!r}")
    if settings.DISTILL and settings.LOSS != "cross_entropy":
        raise UserError(
            f'DISTILL blends a teacher into cross-entropy: LOSS must be "cross_entropy", got {settings.LOSS!r}'
        )
