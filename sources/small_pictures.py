"""Small pictures of one size, held in memory and augmented a batch at a time: 32 x 32 ones above all.

held = hold(count, place, max_megapixels, desc) # (N, 3, h, w) uint8; None where they are large or of several sizes
crops = augment_batch(held[numbers], draws)     # as Augmentation does to pictures one by one, 20 times as fast
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from basics.progress_bar import progress_bar
from sources.images import load_image, pixels_of_file
from sources.shards.picture import Picture

MOST_BYTES = 2**28  # of all pictures of a split
STREAM = 2  # of random numbers, which are not those of the batches' order
DRAWS = 8  # random numbers a picture
GREY = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


def hold(count: int, place: Callable[[int], Picture], max_megapixels: float, desc: str) -> Tensor | None:
    """All pictures in RGB, where they are of one size and small together. Raises ImageError for what cannot be read."""
    if not count or 3 * pixels_of_file(place(0)) * count > MOST_BYTES:
        return None

    def read(number: int) -> Tensor:
        return pil_to_tensor(load_image(place(number), max_megapixels))

    first = read(0)
    held = torch.empty((count, *first.shape), dtype=torch.uint8)
    with ThreadPoolExecutor() as pool:
        for number, picture in enumerate(progress_bar(pool.map(read, range(count)), total=count, desc=desc)):
            if picture.shape != first.shape:
                pool.shutdown(wait=False, cancel_futures=True)
                return None
            held[number] = picture
    return held


def random_numbers(seed: int, view: int, count: int) -> np.ndarray:
    """Numbers from 0 to 1 for each of all pictures of a split, (count, DRAWS)."""
    return np.random.default_rng((seed, view, STREAM)).random((count, DRAWS), dtype=np.float32)


def augment_batch(pictures: Tensor, draws: Tensor, mirror: bool) -> Tensor:
    """A crop of at least 80% of the area and light colour jitter, (B, 3, h, w) uint8; draws (B, DRAWS) decide all."""
    area, ratio = 0.8 + 0.2 * draws[:, 0], (0.9 + 0.2 * draws[:, 1])
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)  # shares of the whole
    x, y = (1 - width) * (2 * draws[:, 2] - 1), (1 - height) * (2 * draws[:, 3] - 1)  # of the middle, -1 to 1
    turned = torch.where(draws[:, 4] < 0.5, -width, width) if mirror else width
    zero = torch.zeros_like(x)
    boxes = torch.stack([torch.stack([turned, zero, x], 1), torch.stack([zero, height, y], 1)], 1)  # (B, 2, 3)
    grid = F.affine_grid(boxes, list(pictures.shape), align_corners=False)
    crops = F.grid_sample(pictures.float(), grid, padding_mode="border", align_corners=False)
    return jitter(crops, 0.8 + 0.4 * draws[:, 5:8]).round_().clamp_(0, 255).to(torch.uint8)


def jitter(pictures: Tensor, factors: Tensor) -> Tensor:
    """Brightness, contrast and saturation times factors (B, 3)."""
    brightness, contrast, saturation = factors.view(-1, 3, 1, 1, 1).unbind(1)
    pictures = (pictures * brightness).clamp_(0, 255)
    mean = (pictures * GREY).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    pictures = torch.lerp(mean.expand_as(pictures), pictures, contrast).clamp_(0, 255)
    grey = (pictures * GREY).sum(1, keepdim=True)
    return torch.lerp(grey.expand_as(pictures), pictures, saturation)
