"""Training pictures blended in pairs, and their labels with them: mixup (Zhang et al. 2018, arXiv 1710.09412) and
CutMix (Yun et al. 2019, arXiv 1905.04899).

    mix = mixing(settings)(epoch, batch)            # one for a whole batch, on all processes the same
    images = mix.images(pixels)                     # (B + 1, 3, H, W) -> (B, 3, H, W): each with the one before it
    targets = mix.targets(labels, num_classes)      # (B + 1,) -> (B, C), which sum to 1

A rectangle is kept as shares of the sides, so that a student and a teacher of other sizes see the same one: v2.MixUp
and v2.CutMix of torchvision draw from the process's own generator, and a rectangle in pixels of one size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from basics.settings import Settings

STREAM = 1  # of random numbers, which are not those of the batches' order
Box = tuple[float, float, float, float]  # left, top, right, bottom; 0 to 1


@dataclass(frozen=True)
class Mix:
    """share: of each picture itself; box: where the other one's is seen instead, None: all over."""

    share: float
    box: Box | None = None

    def images(self, pixels: Tensor) -> Tensor:
        before, own = pixels[:-1], pixels[1:]
        if self.box is None:
            return own.lerp(before, 1 - self.share)
        left, top, right, bottom = (
            round(place * side) for place, side in zip(self.box, (pixels.shape[3], pixels.shape[2]) * 2)
        )
        mixed = own.clone()
        mixed[:, :, top:bottom, left:right] = before[:, :, top:bottom, left:right]
        return mixed

    def targets(self, labels: Tensor, num_classes: int) -> Tensor:
        whole = F.one_hot(labels, num_classes).float()
        return whole[1:].lerp(whole[:-1], 1 - self.share)


Draw = Callable[[float, np.random.Generator], Mix]


@dataclass(frozen=True)
class Mixing:
    """What is done to each batch: one of these, with a share from Beta(alpha, alpha)."""

    seed: int
    kinds: Sequence[tuple[Draw, float]]

    def __call__(self, epoch: int, batch: int) -> Mix:
        random = np.random.default_rng((self.seed, epoch, batch, STREAM))
        draw, alpha = self.kinds[int(random.integers(len(self.kinds)))]
        return draw(random.beta(alpha, alpha), random)


def mixing(settings: Settings) -> Mixing | None:
    """What MIXUP_ALPHA and CUTMIX_ALPHA ask for, None where they ask for nothing; with both each batch draws one."""
    kinds: list[tuple[Draw, float]] = [(mixup, settings.MIXUP_ALPHA), (cutmix, settings.CUTMIX_ALPHA)]
    kinds = [(draw, alpha) for draw, alpha in kinds if alpha]
    return Mixing(settings.SEED, kinds) if kinds else None


def mixup(share: float, random: np.random.Generator) -> Mix:
    return Mix(share)


def cutmix(share: float, random: np.random.Generator) -> Mix:
    """A rectangle of the picture's shape anywhere, cut at its edges; what is left of it decides the labels."""
    half = np.sqrt(1 - share) / 2
    x, y = random.random(2)
    left, top, right, bottom = (float(np.clip(v, 0, 1)) for v in (x - half, y - half, x + half, y + half))
    return Mix(1 - (right - left) * (bottom - top), (left, top, right, bottom))
