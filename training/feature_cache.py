"""A feature cache: what a frozen encoder makes of each picture, computed once into one memory-mapped fp16 file.

    features = cached_features(encoder, image_processor, dataset, settings, device, dtype)
    features.read([4, 0, 7], [1, 0, 2])     # images 4, 0, 7 in views 1, 0, 2: (3, S, E) float16

DATA_DIR/<DATASET>/features/<split>-<key>.bin holds (views, images, S, E). The key covers the encoder's weights, the
preprocessing, the pictures and the augmentation, so another encoder makes another file, and none is ever used for what
it was not made from. Building can be stopped and goes on where it was (cache_file.py).
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from basics.cache_file import CacheFile, size
from basics.devices import autocast
from basics.settings import Settings
from networks.encoder import describe_encoder, token_shape

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


class Views(Dataset):
    """All views of a dataset's pictures, ready for the encoder, in the order of the file."""

    def __init__(self, dataset, start: int):
        self.dataset, self.start = dataset, start

    def __len__(self) -> int:
        return self.dataset.views * len(self.dataset.names) - self.start

    def __getitems__(self, indices: list[int]) -> Tensor:
        places = [divmod(self.start + index, len(self.dataset.names)) for index in indices]
        return self.dataset.pixels([number for _, number in places], [view for view, _ in places])


def cached_features(
    encoder: nn.Module, image_processor, dataset, settings: Settings, device: torch.device, dtype: torch.dtype
) -> Features:
    """The features of a dataset's pictures, from the disk where they are there and whole, else made now.

    Raises UserError where the disk is too small.
    """
    tokens, width = token_shape(encoder, image_processor)
    shape = (dataset.views, len(dataset.names), tokens, width)
    inputs = describe_inputs(encoder, image_processor, dataset, shape, dtype)
    cache = CacheFile(settings.data_path / "features" / dataset.split, inputs)

    def produce(done: int) -> Iterator[tuple[int, bytes]]:
        return encode(encoder, dataset, done, settings.NUM_WORKERS, device, dtype)

    num_bytes = 2 * int(np.prod(shape))
    cache.make(shape[0] * shape[1], num_bytes, produce, f"encoding {dataset.split}", advice=ADVICE)
    print(f"features     {size(num_bytes)}, {cache.path}")
    return Features(cache.path, shape)


def describe_inputs(encoder, image_processor, dataset, shape: tuple, dtype: torch.dtype) -> dict:
    weights = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        weights.update(name.encode() + tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return {
        "weights": weights.hexdigest(),
        "preprocessing": describe_encoder(encoder, image_processor),
        "pictures": describe_pictures(dataset),
        "augmentation": dataset.augmentation,
        "shape": shape,
        "precision": str(dtype),
    }


def describe_pictures(dataset) -> str:
    files = [dataset.path(i).stat() for i in range(len(dataset.names))]
    pictures = [[name, file.st_size, file.st_mtime_ns] for name, file in zip(dataset.names, files)]
    return hashlib.sha256(json.dumps(pictures).encode()).hexdigest()


@torch.inference_mode()
def encode(encoder, dataset, done: int, workers: int, device, dtype) -> Iterator[tuple[int, bytes]]:
    """What the encoder makes of the views after the first `done`, a few at a time, as the bytes of the file."""
    loader = DataLoader(
        Views(dataset, done),
        BATCH,
        num_workers=workers,
        collate_fn=itself,
        generator=torch.Generator(),  # its own: dropout must not depend on whether the file was there
    )
    encoder.eval()
    for pixels in loader:
        with autocast(device, dtype):
            yield len(pixels), encoder(pixels.to(device)).to(torch.float16).cpu().numpy().tobytes()


def itself(batch):
    return batch
