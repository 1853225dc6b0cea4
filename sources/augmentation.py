"""Training pictures made different each time they are seen, the same for the same seed, view and number.

augmentation = Augmentation(settings)
augmentation(image, view=3, number=17)      # another crop and light of picture 17
"""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from basics.settings import Settings

GREY = [124.0, 116.0, 104.0]  # of erased rectangles: the mean of photographs


class Augmentation:
    """What AUGMENT does: a random crop of at least 80% of the area and light colour jitter, and what is asked besides.

    AUGMENT_MIRROR: half of the pictures left to right, for captions that do not say left and right.
    """

    def __init__(self, settings: Settings):
        self.seed, self.mirror = settings.SEED, settings.AUGMENT_MIRROR
        self.operations, self.erased = settings.RANDAUGMENT_OPS, settings.RANDOM_ERASING
        self.last: list[Callable[[Image.Image], Image.Image]] = []
        if self.operations:
            self.last.append(v2.RandAugment(self.operations))
        if self.erased:
            self.last.append(self.erase)

    @property
    def inputs(self) -> list[int | float]:
        """What decides the views of a picture."""
        more = [self.operations, self.erased] if self.last else []
        return [self.seed, self.mirror, *more]

    def __call__(self, image: Image.Image, view: int, number: int) -> Image.Image:
        width, height = image.size
        ratio = width / height
        with seeded(self.seed, view, number):
            image = v2.RandomResizedCrop((height, width), scale=(0.8, 1.0), ratio=(0.9 * ratio, 1.1 * ratio))(image)
            image = v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)(image)
            image = v2.RandomHorizontalFlip(0.5 if self.mirror else 0.0)(image)
            return self.finish(image)

    def finish(self, image: Image.Image) -> Image.Image:
        """What comes after crop, light and mirror, drawing from torch's generator."""
        for transform in self.last:
            image = transform(image)
        return image

    def erase(self, image: Image.Image) -> Image.Image:
        """A rectangle in a share of the pictures (Zhong et al. 2017, arXiv 1708.04896)."""
        return F.to_pil_image(v2.RandomErasing(self.erased, value=GREY)(F.pil_to_tensor(image)))


@contextlib.contextmanager
def seeded(*seed: int) -> Iterator[None]:
    """Within, torch's generator on the CPU is one of its own."""
    with torch.random.fork_rng(devices=[]):
        # this generator alone: torch.manual_seed() would seed those of GPUs too, which training draws from
        torch.default_generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        yield
