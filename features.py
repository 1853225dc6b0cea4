"""A feature cache: what a frozen encoder makes of each picture, computed once into one memory-mapped fp16 file.

    features = cached_features(encoder, image_processor, dataset, settings, device, dtype)
    features.read([4, 0, 7], [1, 0, 2])     # images 4, 0, 7 in views 1, 0, 2: (3, S, E) float16

DATA_DIR/<DATASET>/features/<split>-<key>.bin holds (views, images, S, E), the .json beside it its checksum. The key
covers the encoder's weights, the preprocessing, the pictures and the augmentation, so another encoder makes another
file, and none is ever used for what it was not made from. Building can be stopped and goes on where it was.
"""

import hashlib
import json
import os
import shutil
import time
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from encoder import describe_encoder, token_shape
from errors import UserError
from files import write_atomically
from optimization import autocast
from settings import Settings

BATCH = 32  # pictures encoded at once
BLOCK = 2**26  # bytes read at once for a checksum
NOTE_EVERY = 5.0  # seconds of work that a kill can lose


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
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]
    features = Features(settings.data_path / "features" / f"{dataset.split}-{key}.bin", shape)
    features.path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(features.path.with_suffix(".lock")):  # a second process waits, then finds the file
        if not is_whole(features.path):
            build(encoder, dataset, settings, features, device, dtype)
    print(f"features     {size(features.path.stat().st_size)}, {features.path}")
    return features


def describe_inputs(encoder, image_processor, dataset, shape: tuple, dtype: torch.dtype) -> dict:
    weights = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        weights.update(name.encode() + tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    files = [dataset.path(i).stat() for i in range(len(dataset.names))]
    pictures = [[name, file.st_size, file.st_mtime_ns] for name, file in zip(dataset.names, files)]
    return {
        "weights": weights.hexdigest(),
        "preprocessing": describe_encoder(encoder, image_processor),
        "pictures": hashlib.sha256(json.dumps(pictures).encode()).hexdigest(),
        "augmentation": dataset.augmentation,
        "shape": shape,
        "precision": str(dtype),
    }


def is_whole(path: Path) -> bool:
    """Whether the file is there and its checksum right; what is damaged is named and removed."""
    note = path.with_suffix(".json")
    if not (path.is_file() and note.is_file()):
        return False
    if json.loads(note.read_text(encoding="utf-8"))["crc32"] == checksum(path):
        return True
    print(f"features     {path} is damaged and made anew")
    path.unlink()
    return False


def checksum(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            value = zlib.crc32(block, value)
    return value


def itself(batch):
    return batch


@torch.inference_mode()
def build(encoder, dataset, settings: Settings, features: Features, device: torch.device, dtype: torch.dtype) -> None:
    """Encode what is missing. A stop loses at most NOTE_EVERY seconds: the note says how much of the file counts."""
    part, note = features.path.with_suffix(".part"), features.path.with_suffix(".part.json")
    done, crc = read_note(part, note)
    row = int(np.prod(features.shape[2:])) * 2  # bytes
    total = features.shape[0] * features.shape[1]
    check_space(part.parent, (total - done) * row)
    loader = DataLoader(
        Views(dataset, done), BATCH, num_workers=settings.NUM_WORKERS, collate_fn=itself,
        generator=torch.Generator(),  # its own: dropout must not depend on whether the file was there
    )  # fmt: skip
    bar = tqdm(total=total, initial=done, desc=f"encoding {dataset.split}", unit=" pictures", leave=False, disable=None)
    encoder.eval()
    with open(part, "r+b" if done else "wb") as file:
        file.seek(done * row)
        noted = time.monotonic()
        for pixels in loader:
            with autocast(device, dtype):
                values = encoder(pixels.to(device)).to(torch.float16).cpu().numpy().tobytes()
            file.write(values)
            done, crc = done + len(pixels), zlib.crc32(values, crc)
            bar.update(len(pixels))
            if time.monotonic() - noted > NOTE_EVERY:
                file.flush()
                os.fsync(file.fileno())
                write_atomically(note, json.dumps({"done": done, "crc32": crc}))
                noted = time.monotonic()
    bar.close()
    write_atomically(features.path.with_suffix(".json"), json.dumps({"crc32": crc, "shape": features.shape}))
    os.replace(part, features.path)
    note.unlink(missing_ok=True)


def read_note(part: Path, note: Path) -> tuple[int, int]:
    """(pictures done, checksum so far) of a build that was stopped."""
    if not (part.is_file() and note.is_file()):
        return 0, 0
    state = json.loads(note.read_text(encoding="utf-8"))
    return state["done"], state["crc32"]


def check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"the feature cache needs {size(needed)} in {folder}, where {size(free)} are free; make room, lower "
            "AUGMENT_VIEWS, name another DATA_DIR, or train without CACHE_FEATURES"
        )


def size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MiB"
