"""Pull features of the student towards its teacher's, through activation hooks on any named modules of both.

    add_feature_loss(model, image_processor, settings, device)   # before the optimizer, which trains the projector
    criterion = FeatureDistillLoss(inner, teaching, settings)    # around any criterion of captions

DISTILL_FEATURES "ours=theirs" names modules that see pictures, as named_modules() does: an encoder, its blocks, what
projects its tokens. The projector lies in model.training_only, which optimizer, average and checkpoint treat as the
rest of the model, and which no captioner that is saved holds.
"""

import torch
from PIL import Image
from torch import Tensor, nn

from basics.errors import UserError
from basics.settings import Settings
from distillation.feature_loss import FeatureLoss, as_grid
from distillation.soft_targets import shown_pixels
from distillation.teacher import load_teacher
from networks.encoder import prepare_pixels
from networks.hooks import Tap

NAME = "feature_loss"
EXPECTED = "name one that sees pictures and runs in training (with CACHE_FEATURES the encoder does not), as projection"


def module_names(settings: Settings) -> tuple[str, str]:
    ours, _, theirs = settings.DISTILL_FEATURES.partition("=")
    return ours.strip(), theirs.strip()


@torch.no_grad()
def add_feature_loss(model: nn.Module, image_processor, settings: Settings, device: torch.device) -> None:
    """Give the model the projector, whose widths two blank pictures tell. Raises UserError for unfit modules."""
    teacher, blank = load_teacher(settings.TEACHER_MODEL_NAME, device), [Image.new("RGB", (64, 64))] * 2
    ours, theirs = module_names(settings)
    tokens = torch.zeros(4, 4, dtype=torch.long, device=device)  # eight in a row for each picture: no grid at all
    was_training = model.training
    model.eval()
    with Tap(model, ours) as mine, Tap(teacher.model, theirs) as its:
        features = model.encoder(prepare_pixels(image_processor, blank).to(device))
        if settings.CACHE_FEATURES:
            mine.clear()
        model(features, tokens, None, torch.ones_like(tokens, dtype=torch.bool))
        teacher.image_tokens(teacher.pixels(blank))
        widths = [width_of(found, name) for found, name in ((mine, ours), (its, theirs))]
    model.train(was_training)
    model.training_only[NAME] = FeatureLoss(*widths).to(device)


def width_of(features: dict, name: str) -> int:
    """Channels of what the module makes of two pictures. Raises UserError where that is no feature map."""
    try:
        grid = as_grid(features[name])
    except KeyError:
        raise UserError(f"DISTILL_FEATURES: the module {name!r} does not run; {EXPECTED}") from None
    except ValueError as error:
        raise UserError(f"DISTILL_FEATURES: the module {name!r} makes no feature map ({error}); {EXPECTED}") from None
    if len(grid) != 2:
        raise UserError(f"DISTILL_FEATURES: the module {name!r} makes more of a picture than one map; {EXPECTED}")
    return grid.shape[1]


class FeatureDistillLoss:
    """The criterion `inner` and, with DISTILL_FEATURE_WEIGHT, FeatureLoss between both modules on the same crops."""

    def __init__(self, inner, teaching, settings: Settings):
        self.name, self.record = inner.name, inner.record
        self.inner, self.teaching = inner, teaching
        self.names, self.weight = module_names(settings), settings.DISTILL_FEATURE_WEIGHT

    def __call__(self, model: nn.Module, batch: dict) -> tuple[Tensor, int]:
        ours, theirs = self.names
        teacher = self.teaching.teacher
        with Tap(model, ours) as mine, Tap(teacher.model, theirs) as its:
            loss, count = self.inner(model, batch)
            teacher.image_tokens(shown_pixels(teacher, self.teaching.dataset, batch))
            pull = model.training_only[NAME](mine[ours], its[theirs])
        return loss + self.weight * count * pull, count
