"""A feature cache: what a frozen encoder makes of each picture, computed once into memory-mapped fp16 files.

    features = cached_features(encoder, pictures, settings, device, dtype, processes)
    features.read([4, 0, 7], [1, 0, 2])     # images 4, 0, 7 in views 1, 0, 2: (3, S, E) float16

DATA_DIR/<DATASET>/features/<split>-<key>.bin holds (views, images, S, E); what is more than PART_BYTES lies in the
folder <split>-<key>/ in parts of consecutive images, which processes make together. The key covers the encoder's
weights, the preprocessing, the pictures and the augmentation, so another encoder makes another file, and none is ever
used for what it was not made from. Building can be stopped and goes on where it was (cache_file.py).
"""

import copy
import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from basics.cache_file import CacheFile, check_space
from basics.devices import autocast
from basics.disk import size
from basics.progress_bar import progress_bar, skip
from basics.settings import Settings
from basics.workers import end_with_parent, num_workers
from dataset import SplitPictures
from networks.encoder import Encoder, ImageProcessor, describe_encoder, example_pixels, token_shape
from networks.fast import make_fast
from training.processes import Processes

BATCH = 32  # pictures encoded at once
PART_BYTES = 2**28  # of a file, or what one picture takes
MOST_MAPPED = 64  # files, of the thousand or so that a process may open
ADVICE = ", lower AUGMENT_VIEWS, or train without CACHE_FEATURES"
Place = tuple[int, int]  # a picture's number and its view


@functools.lru_cache(MOST_MAPPED)
def mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(np.memmap(path, np.float16, "r", shape=shape))


@dataclass
class Features:
    """Cached features (views, images, S, E) of one split, `images_a_file` in each of its files but the last."""

    paths: list[Path]
    shape: tuple[int, int, int, int]
    images_a_file: int

    @property
    def views(self) -> int:
        return self.shape[0]

    def read(self, numbers: list[int], views: list[int]) -> Tensor:
        """Image numbers and the view of each -> (U, S, E) float16."""
        found = np.empty((len(numbers), *self.shape[2:]), np.float16)
        for row, (number, view) in enumerate(zip(numbers, views)):
            found[row] = self.read_one(*divmod(number, self.images_a_file), view)
        return torch.from_numpy(found)

    def read_one(self, file: int, place: int, view: int) -> np.ndarray:
        """(S, E), of a file that stays mapped where there are few of them; mapping one anew each time costs most."""
        images = min(self.images_a_file, self.shape[1] - file * self.images_a_file)
        if len(self.paths) <= MOST_MAPPED:
            return mapped(self.paths[file], (self.shape[0], images, *self.shape[2:]))[view, place]
        tokens, width = self.shape[2:]
        offset = 2 * tokens * width * (view * images + place)
        return np.fromfile(self.paths[file], np.float16, tokens * width, offset=offset).reshape(tokens, width)


@dataclass
class FeaturePart:
    """Consecutive images of a split, whose features are one file."""

    cache: CacheFile
    numbers: range


class Views(Dataset[Tensor]):
    """Pictures of a split in their views, ready for the encoder."""

    def __init__(self, pictures: SplitPictures):
        self.pictures = pictures

    def __getitems__(self, places: list[Place]) -> Tensor:
        return self.pictures.read([number for number, _ in places], [view for _, view in places])


class Turn:
    """The batches of the part whose turn it is, after the views that are done."""

    def __init__(self, views: int):
        self.views, self.numbers, self.done = views, range(0), 0

    def __iter__(self) -> Iterator[list[Place]]:
        total, images = self.views * len(self.numbers), len(self.numbers)
        for start in range(self.done, total, BATCH):
            places = [divmod(place, images) for place in range(start, min(start + BATCH, total))]
            yield [(self.numbers[image], view) for view, image in places]


def cached_features(
    encoder: Encoder,
    pictures: SplitPictures,
    settings: Settings,
    device: torch.device,
    dtype: torch.dtype,
    processes: Processes,
) -> Features:
    """The features of a split's pictures, from the disk where they are there and whole, else made now.

    Each process sees to its share of the parts. Raises UserError where the disk is too small.
    """
    tokens, width = token_shape(encoder, pictures.image_processor)
    shape = (pictures.views, len(pictures), tokens, width)
    bytes_an_image = 2 * pictures.views * tokens * width
    images_a_file = max(1, PART_BYTES // bytes_an_image)
    inputs = describe_inputs(encoder, pictures, shape, dtype)
    place, parts = feature_parts(settings.data_path / "features" / pictures.split, inputs, len(pictures), images_a_file)
    missing = sum(bytes_an_image * len(part.numbers) - part.cache.bytes_there() for part in parts)
    check_space(place.parent, missing, ADVICE)  # for all: not after hours, at the last part
    mapped.cache_clear()  # of what may be made anew
    mine = parts[processes.here.index :: processes.here.count]
    desc = f"encoding {pictures.split}" + f", {pictures.views} views of each" * (pictures.views > 1)
    total = pictures.views * sum(len(part.numbers) for part in mine)
    encode_part = encoding(encoder, pictures, settings.NUM_WORKERS, device, dtype)
    with progress_bar(total=total, desc=desc, unit=" pictures") as bar:
        for part in mine:
            there, num_views = bar.n, pictures.views * len(part.numbers)
            produce = functools.partial(encode_part, part.numbers)
            part.cache.make(num_views, bytes_an_image * len(part.numbers), produce, bar, advice=ADVICE)
            skip(bar, there + num_views - bar.n)  # of a part that was there
    processes.wait()
    print(f"features     {size(bytes_an_image * len(pictures))}, {place}")
    return Features([part.cache.path for part in parts], shape, images_a_file)


def feature_parts(
    stem: Path, inputs: dict[str, Any], images: int, images_a_file: int
) -> tuple[Path, list[FeaturePart]]:
    """The file or folder of a split's features, and its parts."""
    whole = CacheFile(stem, inputs)
    if images <= images_a_file:
        return whole.path, [FeaturePart(whole, range(images))]
    folder, parts = whole.path.with_suffix(""), []
    for number, start in enumerate(range(0, images, images_a_file)):
        numbers = range(start, min(start + images_a_file, images))
        described = inputs | {"images": [numbers.start, numbers.stop]}
        parts.append(FeaturePart(CacheFile(folder / f"{number:05}", described), numbers))
    return folder, parts


def describe_inputs(
    encoder: Encoder, pictures: SplitPictures, shape: tuple[int, ...], dtype: torch.dtype
) -> dict[str, Any]:
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


def encoding(
    encoder: Encoder, pictures: SplitPictures, workers: int, device: torch.device, dtype: torch.dtype
) -> Callable[[range, int], Iterator[tuple[int, bytes]]]:
    """What encodes these pictures after the first `done` views; the processes that load them stay for all parts."""
    turn = Turn(pictures.views)
    loader = DataLoader(
        Views(pictures),
        batch_sampler=turn,  # type: ignore[arg-type]  # torch expects whole numbers, but only hands on what comes
        num_workers=num_workers(workers),
        persistent_workers=num_workers(workers) > 0,
        worker_init_fn=end_with_parent,
        collate_fn=same_batch,  # type: ignore[arg-type]  # torch expects a list, but __getitems__ gives a batch
        generator=torch.Generator(),  # its own: dropout must not depend on whether the file was there
    )

    @functools.cache
    def fast() -> Encoder:
        return fast_copy(encoder, pictures.image_processor, dtype)

    def encode_part(numbers: range, done: int) -> Iterator[tuple[int, bytes]]:
        turn.numbers, turn.done = numbers, done
        return encode(fast(), loader, device, dtype)

    return encode_part


@torch.inference_mode()
def encode(
    encoder: Encoder, loader: DataLoader, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[int, bytes]]:
    """What the encoder makes of each batch, as the bytes of the file."""
    for pixels in loader:
        with autocast(device, dtype):
            yield len(pixels), encoder(pixels.to(device)).to(torch.float16).cpu().numpy().tobytes()


def fast_copy(encoder: Encoder, image_processor: ImageProcessor, dtype: torch.dtype) -> Encoder:
    """The encoder made fast, while training goes on with the one that its checkpoints hold."""
    picture = example_pixels(image_processor).to(next(encoder.parameters()).device)
    fast = copy.deepcopy(encoder)
    make_fast(fast, dtype, lambda: fast(picture))
    return fast


def same_batch(batch: Tensor) -> Tensor:
    return batch
