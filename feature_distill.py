"""Pull features of the student towards its teacher's, through activation hooks on any named modules of both.

    add_feature_loss(model, image_processor, settings, device)   # before the optimizer is made: it trains the projector
    criterion = FeatureDistillLoss(DistillLoss(...), settings)   # around a criterion whose teacher runs along

DISTILL_FEATURES "ours=theirs" names the modules as named_modules() does. The projector lies in model.training_only,
which optimizer, average and checkpoint treat as the rest of the model, and which no captioner that is saved holds.
"""

import torch
from PIL import Image
from torch import Tensor, nn

from encoder import prepare_pixels
from errors import UserError
from feature_loss import FeatureLoss, as_tokens
from settings import Settings
from taps import Tap
from teacher import load_teacher

NAME = "feature_loss"


def module_names(settings: Settings) -> tuple[str, str]:
    ours, _, theirs = settings.DISTILL_FEATURES.partition("=")
    return ours.strip(), theirs.strip()


@torch.no_grad()
def add_feature_loss(model: nn.Module, image_processor, settings: Settings, device: torch.device) -> None:
    """Give the model the projector, whose widths one blank picture tells. Raises UserError for unknown modules."""
    teacher, blank = load_teacher(settings.TEACHER_MODEL_NAME, device), [Image.new("RGB", (64, 64))]
    ours, theirs = module_names(settings)
    was_training = model.training
    model.eval()
    with Tap(model, ours) as mine, Tap(teacher.model, theirs) as its:
        model(prepare_pixels(image_processor, blank).to(device), torch.zeros(1, 2, dtype=torch.long, device=device))
        rows, _ = teacher.encode(["a"])
        teacher.probabilities(teacher.pixels(blank), rows, [0])
        widths = [as_tokens(found).shape[1] for found in features_of(mine, its, ours, theirs)]
    model.train(was_training)
    model.training_only[NAME] = FeatureLoss(*widths).to(device)


def features_of(mine: dict, its: dict, ours: str, theirs: str) -> tuple[Tensor, Tensor]:
    """Both outputs. Raises UserError where a module was not reached."""
    for who, name, found in (("the student's", ours, mine), ("the teacher's", theirs, its)):
        if name not in found:
            raise UserError(
                f"DISTILL_FEATURES: {who} module {name!r} does not run in training, as those of an encoder whose "
                "features are cached; name another, like projection"
            )
    return mine[ours], its[theirs]


class FeatureDistillLoss:
    """The criterion `inner`, whose targets run the teacher, and FeatureLoss between the modules on the way."""

    name = "loss"

    def __init__(self, inner, settings: Settings):
        self.inner, self.names, self.weight = inner, module_names(settings), settings.DISTILL_FEATURE_WEIGHT

    def __call__(self, model: nn.Module, batch: dict) -> tuple[Tensor, int]:
        ours, theirs = self.names
        with Tap(model, ours) as mine, Tap(self.inner.targets.teacher.model, theirs) as its:
            loss, count = self.inner(model, batch)
            pull = model.training_only[NAME](*features_of(mine, its, ours, theirs))
        return loss + self.weight * count * pull, count

    def record(self, mean: float) -> dict:
        return {"train_loss": mean}
