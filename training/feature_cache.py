"""A feature cache: what a frozen encoder makes of each picture, computed once into one memory-mapped fp16 file.

    features = cached_features(encoder, pictures, settings, device, dtype)
    features.read([4, 0, 7], [1, 0, 2])     # images 4, 0, 7 in views 1, 0, 2: (3, S, E) float16

DATA_DIR/<DATASET>/features/<split>-<key>.bin holds (views, images, S, E). The key covers the encoder's weights, the
preprocessing, the pictures and the augmentation, so another encoder makes another file, and none is ever used for what
it was not made from. Building can be stopped and goes on where it was (cache_file.py).
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from basics.cache_file import CacheFile
from basics.devices import autocast
from basics.disk import size
from basics.settings import Settings
from basics.workers import end_with_parent, num_workers
from dataset import SplitPictures
from networks.encoder import VisionEncoder, describe_encoder, token_shape

BATCH = 32  # pictures encoded at once
ADVICE = ", lower AUGMENT_VIEWS, or train without CACHE_FEATURES"


@dataclass
class Features:
    """Cached features (views, images, S, E) of one split, opened where they are first read."""

    path: Path
    shape: tuple[int, int, int, int]

    @cached_property
    def values(self) -> np.memmap:
        return np.memmap(self.path, np.float16, "r", shape=self.shape)

    @property
    def views(self) -> int:
        return self.shape[0]

    def read(self, numbers: list[int], views: list[int]) -> Tensor:
        """Image numbers and the view of each -> (U, S, E) float16."""
        return torch.from_numpy(self.values[views, numbers])

    def __getstate__(self) -> dict:
        return {"path": self.path, "shape": self.shape}  # the map itself stays in its process


class Views(Dataset[Tensor]):
    """All views of a split's pictures, ready for the encoder, in the order of the file."""

    def __init__(self, pictures: SplitPictures, start: int):
        self.pictures, self.start = pictures, start

    def __len__(self) -> int:
        return self.pictures.views * len(self.pictures) - self.start

    def __getitems__(self, indices: list[int]) -> Tensor:
        places = [divmod(self.start + index, len(self.pictures)) for index in indices]
        return self.pictures.read([number for _, number in places], [view for view, _ in places])


def cached_features(
    encoder: VisionEncoder, pictures: SplitPictures, settings: Settings, device: torch.device, dtype: torch.dtype
) -> Features:
    """The features of a split's pictures, from the disk where they are there and whole, else made now.

    Raises UserError where the disk is too small.
    """
    tokens, width = token_shape(encoder, pictures.image_processor)
    shape = (pictures.views, len(pictures), tokens, width)
    cache = CacheFile(
        settings.data_path / "features" / pictures.split, describe_inputs(encoder, pictures, shape, dtype)
    )

    def produce(done: int) -> Iterator[tuple[int, bytes]]:
        return encode(encoder, pictures, done, settings.NUM_WORKERS, device, dtype)

    num_bytes = 2 * math.prod(shape)
    desc = f"encoding {pictures.split}" + f", {shape[0]} views of each" * (shape[0] > 1)
    cache.make(shape[0] * shape[1], num_bytes, produce, desc, advice=ADVICE)
    print(f"features     {size(num_bytes)}, {cache.path}")
    return Features(cache.path, shape)


def describe_inputs(
    encoder: VisionEncoder, pictures: SplitPictures, shape: tuple[int, ...], dtype: torch.dtype
) -> dict:
    weights = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        weights.update(name.encode() + tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return {
        "weights": weights.hexdigest(),
        "preprocessing": describe_encoder(encoder, pictures.image_processor),
        "pictures": pictures.fingerprint(),
        "augmentation": pictures.augmentation,
        "shape": shape,
        "precision": str(dtype),
    }


@torch.inference_mode()
def encode(
    encoder: VisionEncoder, pictures: SplitPictures, done: int, workers: int, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[int, bytes]]:
    """What the encoder makes of the views after the first `done`, a few at a time, as the bytes of the file."""
    loader = DataLoader(
        Views(pictures, done),
        BATCH,
        num_workers=num_workers(workers),
        worker_init_fn=end_with_parent,
        collate_fn=same_batch,  # type: ignore[arg-type]  # torch expects a list, but __getitems__ gives a batch
        generator=torch.Generator(),  # its own: dropout must not depend on whether the file was there
    )
    encoder.eval()
    for pixels in loader:
        with autocast(device, dtype):
            yield len(pixels), encoder(pixels.to(device)).to(torch.float16).cpu().numpy().tobytes()


def same_batch(batch: Tensor) -> Tensor:
    return batch
