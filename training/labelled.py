"""Labelled pictures as batches: every picture is one example.

    source = LabelledLoader(pictures, labels, settings, shuffle=True)
    batch = next(source.batches(epoch=3, start=0))
        images          (B, 3, H, W)  float; with cached features (B, E)
        numbers         (B,)          their places in the split
        targets         (B,)          their classes, or with a mixing (B, C): shares of them that sum to 1
        target_mask     (B,)          True: it counts (a process without a part of a batch reads what does not)
        teacher_images  (B, 3, H, W)  the same crops as a teacher's preprocessing has them, where one looks along

Order, crops and mixing are pure functions of seed, epoch and position, as in dataset.py.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from basics.devices import Batch
from basics.launched import ALL, Share
from basics.settings import Settings
from basics.workers import num_workers
from dataset import NUMBER, BatchLoader, CaptionBatchSampler, SplitPictures, ViewReader
from networks.encoder import ImageProcessor, prepare_pixels
from sources.augmentation import seeded
from sources.small_pictures import augment_batch, hold, random_numbers
from training.mixing import Mixing


class OwnPart(NamedTuple):
    """This process's pictures of a batch, and the one before them: the last of the whole batch before its first."""

    batch: int
    numbers: list[int]
    before: int


class LabelBatchSampler(CaptionBatchSampler):
    """Batches of pictures in place of pairs."""

    def __iter__(self) -> Iterator[OwnPart]:  # type: ignore[override]  # which a DataLoader only hands on
        for batch, whole in enumerate(self.whole_batches(), self.start_batch):
            own = self.own(whole)
            first = self.part(len(whole)).start if self.has_part(len(whole)) else 0
            yield OwnPart(batch, own.tolist(), int(whole[first - 1]))


class LabelledPictures:
    """The dataset of a LabelledLoader; held: pictures that are small and of one size stay in memory, decoded."""

    def __init__(
        self,
        pictures: SplitPictures,
        labels: Sequence[int],
        num_classes: int,
        *,
        features: ViewReader | None = None,
        mixing: Mixing | None = None,
        teacher: ImageProcessor | None = None,
    ):
        self.pictures, self.features, self.mixing, self.teacher = pictures, features, mixing, teacher
        self.labels, self.num_classes, self.epoch = torch.tensor(labels), num_classes, 0
        self.held = None
        if features is None:
            self.held = hold(len(self), pictures.path, pictures.max_megapixels, f"reading {pictures.split}")
        self.drawn: tuple[int, Tensor] = (0, torch.empty(0))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def takes_long(self) -> bool:
        """Whether processes beside training are of any help: not with what lies in memory, and is a batch at once."""
        one_by_one = self.pictures.augment is not None and bool(self.pictures.augment.last)
        return self.features is None and (self.held is None or one_by_one)

    def __getitems__(self, part: OwnPart) -> Batch:
        numbers = part.numbers if self.mixing is None else [part.before, *part.numbers]
        mix = self.mixing(self.epoch, part.batch) if self.mixing else None
        batch = self.seen(numbers)
        targets = self.labels[numbers]
        if mix is not None:
            batch = {name: mix.images(pixels) for name, pixels in batch.items()}
            targets = mix.targets(targets, self.num_classes)
        own = torch.tensor(part.numbers)
        return {**batch, "numbers": own, "targets": targets, "target_mask": torch.ones(len(own), dtype=torch.bool)}

    def seen(self, numbers: list[int]) -> Batch:
        """What the model reads of these pictures, and beside it what the teacher does of the same crops."""
        if self.features is not None:
            views = [self.pictures.view(number, self.epoch, cached=True) for number in numbers]
            return {"images": self.features.read(numbers, views).flatten(1)}
        crops = self.crops(numbers)
        batch = {"images": prepare_pixels(self.pictures.image_processor, crops)}
        if self.teacher is not None:
            batch["teacher_images"] = prepare_pixels(self.teacher, crops)
        return batch

    def crops(self, numbers: list[int]) -> list[Image.Image]:
        """In RGB, augmented as this epoch has it."""
        view, augment = self.epoch + 1, self.pictures.augment
        if self.held is None:
            return [self.pictures.image(number, view) for number in numbers]
        held = self.held[numbers]
        if augment is None:
            return [to_pil_image(picture) for picture in held]
        crops = [to_pil_image(crop) for crop in augment_batch(held, self.draws(view)[numbers], augment.mirror)]
        return [self.finished(crop, view, number) for crop, number in zip(crops, numbers)] if augment.last else crops

    def finished(self, crop: Image.Image, view: int, number: int) -> Image.Image:
        assert self.pictures.augment is not None
        with seeded(self.pictures.seed, view, number):
            return self.pictures.augment.finish(crop)

    def draws(self, view: int) -> Tensor:
        if self.drawn[0] != view:
            self.drawn = view, torch.from_numpy(random_numbers(self.pictures.seed, view, len(self)))
        return self.drawn[1]


class LabelledLoader(BatchLoader):
    """A Source of labelled pictures, BATCH_SIZE at a time over all processes."""

    dataset: LabelledPictures

    def __init__(self, dataset: LabelledPictures, settings: Settings, *, shuffle: bool, share: Share = ALL):
        sampler = LabelBatchSampler(
            np.arange(len(dataset), dtype=NUMBER),
            settings.BATCH_SIZE,
            seed=settings.SEED,
            grouped=False,
            shuffle=shuffle,
            shard_numbers=dataset.pictures.source.shard_numbers,
            share=share,
        )
        super().__init__(dataset, sampler, same, num_workers(settings.NUM_WORKERS) if dataset.takes_long else 0)


def same(batch: Batch) -> Batch:
    return batch
