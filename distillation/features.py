"""Pull features of the student towards its teacher's, through activation hooks on any named modules of both.

    add_feature_loss(model, image_processor, teacher, settings)      # before the optimizer, which trains its projector
    criterion = FeatureDistillLoss(inner, model, teacher, dataset, settings)    # around any criterion of captions

DISTILL_FEATURES "ours=theirs" names modules that see pictures, as named_modules() does: an encoder, its blocks, what
projects its tokens; widths, grids and families of both may differ. The projector is a part of the model that optimizer,
average and checkpoint treat as the rest, and that no captioner holds that is saved.

Shapes: U images, S tokens of a ViT, C channels, (h, w) the grid of positions. Maps are (U, C, h, w), tokens (U, S, C).
Only positions are compared: CLS and register tokens are dropped.
"""

from math import isqrt

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from basics.devices import Batch
from basics.errors import UserError
from basics.settings import Settings
from dataset import ImageTextDataset
from distillation.soft_targets import shown_pixels
from distillation.teacher import Teacher
from losses.criterion import Criterion, targets_of_images
from model import ImageToTextModel
from networks.encoder import ImageProcessor, prepare_pixels
from networks.hooks import ActivationHooks

FEATURE_LOSS = "feature_loss"  # its name in model.training_only
EXPECTED = "name one that sees pictures and runs in training (with CACHE_FEATURES the encoder does not), as projection"
LEADING = (0, 1, 2, 5)  # CLS, CLS and a distillation token, CLS and four registers (arXiv 2309.16588)
DEAD = 1e-2  # a normed token has length sqrt(C); one far below has no direction, only a huge gradient


class FeatureLoss(nn.Module):
    """How far a student's features are from its teacher's, position by position: (U,) in float32, 0 where equal.

    The student's channels go through a linear projector to the teacher's width (FitNets, Romero et al. 2014, arXiv
    1412.6550); then 1 - cosine of both after LayerNorm without weights, meaned over positions, so that one weight suits
    any layer. A channel that is huge everywhere, as some ViTs have them, hides the others: name such a teacher's module
    after its final norm. The teacher gets no gradient.
    """

    def __init__(self, student_width: int, teacher_width: int):
        super().__init__()
        self.widths = (student_width, teacher_width)
        self.projector = nn.Linear(student_width, teacher_width)

    def forward(self, student_features: Tensor, teacher_features: Tensor) -> Tensor:
        """Maps (U, C, h, w) or tokens (U, S, C), of widths, grids and precisions of their own -> (U,)."""
        with torch.autocast(student_features.device.type, enabled=False):
            student, teacher = paired_grids(student_features, teacher_features)
            if (student.shape[1], teacher.shape[1]) != self.widths:
                found = f"{student.shape[1]} and {teacher.shape[1]}"
                raise ValueError(f"student and teacher have {found} channels, expected {self.widths} in (U, C, h, w)")
            student = resize(student, teacher.shape[2:])
            return cosine_distance(self.projector(rows(student)), rows(teacher))


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine of (U, N, C) after LayerNorm without weights: 1 - correlation of the channels, in [0, 2], over N."""
    student, teacher = (F.layer_norm(x, x.shape[-1:]) for x in (student, teacher))
    return 1 - F.cosine_similarity(student, teacher, dim=-1, eps=DEAD).mean(1)


def paired_grids(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both as grids in float32, the teacher cut off from its graph."""
    if len(student) != len(teacher):
        raise ValueError(f"features of {len(student)} images for the student, {len(teacher)} for the teacher")
    return as_grid(student).float(), as_grid(teacher.detach()).float()


def as_grid(features: Tensor) -> Tensor:
    """Map (U, C, h, w) as it is, or ViT tokens (U, S, C), row by row -> grid (U, C, h, w) of its positions alone.

    The fewest of LEADING tokens before the positions that leave a square (CLS, registers) are dropped.
    """
    if features.ndim == 4:
        return features
    if features.ndim != 3:
        raise ValueError(f"features are {tuple(features.shape)}; expected (U, C, h, w) or (U, S, C)")
    S = features.shape[1]
    leading = count_leading(S)
    side = isqrt(S - leading)
    return features[:, leading:].transpose(1, 2).unflatten(2, (side, side))


def count_leading(S: int) -> int:
    """The fewest tokens before a square grid of S in all."""
    for leading in LEADING:
        if S > leading and isqrt(S - leading) ** 2 == S - leading:
            return leading
    raise ValueError(f"{S} tokens are no square grid after 0, 1, 2 or 5 leading ones; pass a map (U, C, h, w)")


def rows(grid: Tensor) -> Tensor:
    return grid.flatten(2).transpose(1, 2)  # (U, h * w, C)


def resize(grid: Tensor, size: tuple[int, ...]) -> Tensor:
    if grid.shape[2:] == size:
        return grid
    return F.interpolate(grid, size, mode="bilinear", antialias=True)


def module_names(settings: Settings) -> tuple[str, str]:
    ours, _, theirs = settings.DISTILL_FEATURES.partition("=")
    return ours.strip(), theirs.strip()


@torch.no_grad()
def add_feature_loss(
    model: ImageToTextModel, image_processor: ImageProcessor, teacher: Teacher, settings: Settings
) -> None:
    """Give a model that is being made its projector, whose widths two blank pictures tell.

    Raises UserError for modules that do not fit.
    """
    blank, device = [Image.new("RGB", (64, 64))] * 2, model.device
    ours, theirs = module_names(settings)
    tokens = torch.zeros(4, 4, dtype=torch.long, device=device)  # eight in a row for each picture: no grid at all
    was_training = model.training
    model.eval()
    with ActivationHooks(model, [ours]) as mine, ActivationHooks(teacher.model, [theirs]) as its:
        features = model.encoder(prepare_pixels(image_processor, blank).to(device))
        if settings.CACHE_FEATURES:
            mine.clear()
        model(features, tokens, None, torch.ones_like(tokens, dtype=torch.bool))
        teacher.image_tokens(teacher.pixels(blank))
        widths = [width_of(found, name) for found, name in ((mine, ours), (its, theirs))]
    model.train(was_training)
    model.training_only[FEATURE_LOSS] = FeatureLoss(*widths).to(device)


def width_of(features: dict[str, Tensor], name: str) -> int:
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
    """The criterion `inner` and, with DISTILL_FEATURE_WEIGHT, FeatureLoss between both modules on the same crops.

    Each target carries its image's, so that the mean over a step is the same however its batches are split.
    """

    def __init__(
        self, inner: Criterion, model: ImageToTextModel, teacher: Teacher, dataset: ImageTextDataset, settings: Settings
    ):
        self.inner, self.name = inner, inner.name
        self.model, self.teacher, self.dataset = model, teacher, dataset
        self.names, self.weight = module_names(settings), settings.DISTILL_FEATURE_WEIGHT

    def count(self, batch: Batch) -> int:
        return self.inner.count(batch)

    def record(self, mean: float) -> dict[str, float | None]:
        return self.inner.record(mean)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        ours, theirs = self.names
        with ActivationHooks(self.model, [ours]) as mine, ActivationHooks(self.teacher.model, [theirs]) as its:
            loss, count = self.inner(model, batch)
            if theirs not in its:  # live predictions have run the teacher over these very crops
                self.teacher.image_tokens(shown_pixels(self.teacher, self.dataset, batch))
            pulls = self.model.training_only[FEATURE_LOSS](mine[ours], its[theirs])  # (U,)
        return loss + self.weight * (pulls * targets_of_images(batch)).sum(), count
