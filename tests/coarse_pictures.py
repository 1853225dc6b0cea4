"""Pictures of coarse noise in odd sizes: what is resized or cropped otherwise shows in their pixels."""

import numpy as np
from PIL import Image

SIZES = [(33, 97), (120, 41), (32, 32), (50, 40), (5, 3), (200, 151), (64, 65)]


def coarse_pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0)
    coarse = (Image.fromarray(noise.integers(0, 256, (4, 4, 3), dtype=np.uint8)) for _ in SIZES)
    return [picture.resize(size, Image.Resampling.BICUBIC) for picture, size in zip(coarse, SIZES)]
