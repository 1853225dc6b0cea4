"""Image-caption pairs as batches: every caption of every image is one example.

    pictures = SplitPictures(data, "train", image_processor, settings)
    dataset = ImageTextDataset(pictures, tokenizer, settings)     # features=, mixed_in= where there are any
    source = PairLoader(dataset, settings, tokenizer.pad_id, shuffle=True)
    batch = next(source.batches(epoch=3, start=0))
        images                (U, 3, H, W)  float, each different image once; with cached features (U, S, E)
        image_numbers         (U,)          their places in the split
        caption_numbers       (B,)          their places among the dataset's captions
        image_index           (B,)          the image of each caption; not there where each has B / U, side by side
        decoder_input_tokens  (B, T)        <s> w1 w2 ...
        target_tokens         (B, T)        w1 w2 ... </s>
        target_mask           (B, T)        True = real token, False = padding

U images, B captions, T tokens of the longest caption. Order and augmentation are pure functions of seed, epoch and
position, so a run can continue in the middle of an epoch, whatever the number of workers and processes.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, Protocol, TypedDict

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from basics.devices import Batch
from basics.launched import ALL, Share
from basics.mapped import Joined, PackedRows
from basics.settings import Settings
from basics.workers import end_with_parent, num_workers
from networks.encoder import ImageProcessor, prepare_pixels
from sources.augmentation import Augmentation
from sources.images import load_image
from sources.pictures import all_pictures
from sources.prepared import AnyData, Split
from sources.shards.picture import Picture
from tokenizer import Tokenizer, id_type, token_ids

NUMBER = np.uint32  # of an image or a pair, of which many are held
SHARDS_AT_ONCE = 16  # shards whose pairs are shuffled among one another: 8 GB of those with 500 MB


class SplitPictures:
    """The pictures of one split with their references, read, augmented and prepared as the encoder takes them.

    Raises ImageError when a picture can no longer be read.
    """

    def __init__(self, data: AnyData, split: str, image_processor: ImageProcessor, settings: Settings):
        self.source: Split = data.split(split)
        self.references = self.source.references
        self.split, self.image_processor = split, image_processor
        self.augment = Augmentation(settings) if settings.AUGMENT and split == "train" else None
        self.seed, self.max_megapixels = settings.SEED, settings.MAX_IMAGE_MEGAPIXELS
        self.views = settings.AUGMENT_VIEWS if self.augment and settings.CACHE_FEATURES else 1

    def __len__(self) -> int:
        return len(self.source)

    def path(self, number: int) -> Picture:
        """Its file, or its place in a shard."""
        return self.source.picture(number)

    @property
    def paths(self) -> list[Picture]:
        return all_pictures(self.source)

    def captions(self, mixed_in: Sequence[str] | None = None) -> Sequence[str]:
        """All references, then one more caption a picture where there are any."""
        return Joined(self.source.captions, mixed_in) if mixed_in else self.source.captions

    @property
    def augmentation(self) -> list[int | float] | None:
        """What decides the views of a picture."""
        return self.augment.inputs if self.augment else None

    def image(self, number: int, view: int) -> Image.Image:
        """RGB; view 0 is the picture itself, the others are augmented."""
        image = load_image(self.path(number), self.max_megapixels)
        return self.augment(image, view, number) if self.augment and view else image

    def view(self, number: int, epoch: int, cached: bool) -> int:
        """The view an epoch shows of a picture: a new one, or of those in a cache all in turn, in its own order."""
        if not cached:
            return epoch + 1
        place = np.random.default_rng((self.seed, number)).integers(self.views)
        return int(place + epoch) % self.views

    def read(self, numbers: list[int], views: list[int]) -> Tensor:
        """Through augmentation and the encoder's preprocessing, (U, 3, H, W)."""
        return prepare_pixels(self.image_processor, (self.image(*place) for place in zip(numbers, views)))

    def fingerprint(self) -> str:
        """Changes where a picture's name, size or time does."""
        return self.source.fingerprint()


class ViewReader(Protocol):
    """What a model encodes: SplitPictures read as pixels, or their cached features."""

    def read(self, numbers: list[int], views: list[int]) -> Tensor:
        """Pictures by number, and the view of each -> (U, 3, H, W) or (U, S, E)."""
        ...


class Row(TypedDict):
    """A pair as it is read; pairs of one image in a batch share its tensor."""

    image: Tensor
    image_number: int
    caption_number: int
    tokens: np.ndarray


class ImageTextDataset(Dataset[Row]):
    """Pairs (image, caption) of one split.

    features: read instead of pictures. mixed_in: one more caption an image; that of image i gets the number
    len(self) + i and is shown at the share DISTILL_CAPTIONS in the place of the others. tokens: the rows of
    token_ids() of all captions, where they lie in a file (training/token_cache.py); else they are held in memory.
    """

    def __init__(
        self,
        pictures: SplitPictures,
        tokenizer: Tokenizer,
        settings: Settings,
        *,
        features: ViewReader | None = None,
        mixed_in: Sequence[str] | None = None,
        tokens: PackedRows | None = None,
    ):
        self.pictures, self.features = pictures, features
        self.references, self.seed, self.epoch = pictures.references, settings.SEED, 0
        self.image_numbers = np.repeat(np.arange(len(pictures), dtype=NUMBER), pictures.source.counts)  # (pairs,)
        self.captions = pictures.captions(mixed_in)
        self.share_mixed_in = settings.DISTILL_CAPTIONS if mixed_in else 0.0
        if tokens is None:
            ids = token_ids(self.captions, tokenizer, settings.MAX_SEQ_LEN)
            tokens = PackedRows.in_memory(ids, id_type(tokenizer))
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.image_numbers)

    def __getitem__(self, index: int) -> Row:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Row]:
        """Rows of a whole batch, where each different image is read once."""
        numbers = self.image_numbers[indices].tolist()
        different = list(dict.fromkeys(numbers))
        images = dict(zip(different, self.images(different)))
        captions = [self.shown_caption(index) for index in indices] if self.share_mixed_in else indices
        return [
            {"image": images[number], "image_number": number, "caption_number": caption, "tokens": self.tokens[caption]}
            for number, caption in zip(numbers, captions)
        ]

    def shown_caption(self, pair: int) -> int:
        """The caption an epoch shows of a pair: its own, or the one mixed in."""
        random = np.random.default_rng((self.seed, self.epoch, pair)).random()
        return pair if random >= self.share_mixed_in else len(self) + int(self.image_numbers[pair])

    def captions_by_image(self) -> list[list[int]]:
        """The numbers of each image's captions, the one mixed in last."""
        numbers: list[list[int]] = [[] for _ in self.references]
        for caption in range(len(self.captions)):
            numbers[self.image_of(caption)].append(caption)
        return numbers

    def image_of(self, caption: int) -> int:
        return int(self.image_numbers[caption]) if caption < len(self) else caption - len(self)

    def images(self, numbers: list[int]) -> Tensor:
        """What training reads: pixels (U, 3, H, W), or cached features (U, S, E) of one view of each picture."""
        reader: ViewReader = self.pictures if self.features is None else self.features
        return reader.read(numbers, [self.view(number) for number in numbers])

    def shown_image(self, number: int) -> Image.Image:
        """The very crop of a picture that this epoch shows, before preprocessing."""
        return self.pictures.image(number, self.view(number))

    def view(self, number: int) -> int:
        return self.pictures.view(number, self.epoch, cached=self.features is not None)


def collate_fn(rows: list[Row], pad_id: int) -> Batch:
    """Rows of ImageTextDataset -> the batch described above, padded to its longest caption."""
    first_row: dict[int, tuple[int, Tensor]] = {}  # image number -> position among the batch's images
    for row in rows:
        first_row.setdefault(row["image_number"], (len(first_row), row["image"]))
    longest = max(len(row["tokens"]) for row in rows)
    tokens = torch.full((len(rows), longest), pad_id)
    lengths = torch.tensor([len(row["tokens"]) for row in rows])
    for i, row in enumerate(rows):
        tokens[i, : len(row["tokens"])] = torch.from_numpy(row["tokens"])
    batch = {
        "images": torch.stack([image for _, image in first_row.values()]),
        "image_numbers": torch.tensor(list(first_row)),
        "caption_numbers": torch.tensor([row["caption_number"] for row in rows]),
        "decoder_input_tokens": tokens[:, :-1],
        "target_tokens": tokens[:, 1:],
        "target_mask": torch.arange(longest - 1) < lengths[:, None] - 1,
    }
    image_index = torch.tensor([first_row[row["image_number"]][0] for row in rows])
    even = torch.arange(len(first_row)).repeat_interleave(-(-len(rows) // len(first_row)))
    return batch if torch.equal(image_index, even) else {**batch, "image_index": image_index}


def without_targets(batch: Batch) -> Batch:
    """The batch as one whose loss is 0, for a process that has no part of the last few pairs of an epoch."""
    return {**batch, "target_mask": torch.zeros_like(batch["target_mask"])}


class CaptionBatchSampler(Sampler[list[int]]):
    """Batches of pair indices; the order depends on seed and epoch alone, and `start_batch` skips what was done.

    Of each batch it gives this process's share; of one that has none for it a pair, as something must be read.
    grouped keeps an image's captions side by side, so that most of a batch shares its images. shard_numbers: the shard
    of each image; of more than SHARDS_AT_ONCE so many are read at a time, as the disk and the network like it.
    """

    def __init__(
        self,
        image_numbers: np.ndarray,
        batch_size: int,
        *,
        seed: int,
        grouped: bool,
        shuffle: bool,
        shard_numbers: np.ndarray | None = None,
        share: Share = ALL,
    ):
        self.image_numbers, self.batch_size, self.seed, self.share = image_numbers, batch_size, seed, share
        self.grouped, self.shuffle, self.shard_numbers = grouped, shuffle, shard_numbers
        self.epoch = self.start_batch = 0

    def __len__(self) -> int:
        return -(-len(self.image_numbers) // self.batch_size) - self.start_batch

    def __iter__(self) -> Iterator[list[int]]:
        return (self.own(batch).tolist() for batch in self.whole_batches())

    def whole_batches(self) -> Iterator[np.ndarray]:
        """Of all processes, after the first start_batch."""
        order = self.order()
        starts = range(self.start_batch * self.batch_size, len(order), self.batch_size)
        return (order[start : start + self.batch_size] for start in starts)

    def own(self, batch: np.ndarray) -> np.ndarray:
        return batch[self.part(len(batch))] if self.has_part(len(batch)) else batch[:1]

    def part(self, size: int) -> slice:
        """Which pairs of a batch of this size are this process's: neighbours, which may share an image."""
        return slice(*(size * (self.share.index + after) // self.share.count for after in (0, 1)))

    def has_part(self, size: int) -> bool:
        part = self.part(size)
        return part.start < part.stop

    def order(self) -> np.ndarray:
        pairs = np.arange(len(self.image_numbers), dtype=NUMBER)
        if not self.shuffle:
            return pairs
        random = np.random.default_rng((self.seed, self.epoch))
        if not self.grouped:
            return self.a_few_shards_at_once(random.permutation(pairs), random)
        place = random.permutation(np.arange(self.image_numbers.max() + 1, dtype=NUMBER))  # of each image in the epoch
        order = np.argsort(place[self.image_numbers], kind="stable").astype(NUMBER)
        return self.a_few_shards_at_once(order, random)

    def a_few_shards_at_once(self, order: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """The same shuffled pairs, sorted by blocks of SHARDS_AT_ONCE shards that this epoch has drawn."""
        if self.shard_numbers is None:
            return order
        named = np.unique(self.shard_numbers)  # those of the split
        if (count := len(named)) <= SHARDS_AT_ONCE:
            return order
        blocks = -(-count // SHARDS_AT_ONCE)
        of_shard = np.empty(int(named[-1]) + 1, np.uint16)
        of_shard[named] = random.permutation(count) % blocks  # all of about one size
        of_image = of_shard[self.shard_numbers]
        return order[np.argsort(of_image[self.image_numbers[order]], kind="stable")]


class BatchLoader:
    """What Sources of pictures have in common: batches of a dataset as a sampler shares them out to processes."""

    def __init__(self, dataset: Any, sampler: CaptionBatchSampler, collate: Callable[[Any], Batch], num_workers: int):
        """dataset: with `pictures` and `epoch`; collate makes a batch of what it gives for what the sampler says."""
        self.dataset, self.sampler, self.batch_size = dataset, sampler, sampler.batch_size
        self.loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=num_workers,
            worker_init_fn=end_with_parent,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # its own: a loader must not draw from the generator that dropout uses
        )

    @property
    def num_examples(self) -> int:
        return len(self.dataset)

    @cached_property
    def order(self) -> str:
        fingerprint: str = self.dataset.pictures.source.order_fingerprint()
        return fingerprint

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        self.dataset.epoch = self.sampler.epoch = epoch
        self.sampler.start_batch = start
        return self.shares(iter(self.loader), self.num_examples - start * self.batch_size)

    def shares(self, batches: Iterator[Batch], left: int) -> Iterator[Batch]:
        """The batches as they are read, of so many examples over all processes."""
        for batch in batches:
            yield batch if self.sampler.has_part(min(left, self.batch_size)) else without_targets(batch)
            left -= self.batch_size


class PairLoader(BatchLoader):
    """A Source of image-caption pairs, BATCH_SIZE at a time over all processes."""

    dataset: ImageTextDataset

    def __init__(
        self, dataset: ImageTextDataset, settings: Settings, pad_id: int, *, shuffle: bool, share: Share = ALL
    ):
        sampler = CaptionBatchSampler(
            dataset.image_numbers,
            settings.BATCH_SIZE,
            seed=settings.SEED,
            grouped=settings.GROUP_CAPTIONS,
            shuffle=shuffle,
            shard_numbers=dataset.pictures.source.shard_numbers,
            share=share,
        )
        # cached features are a copy of memory, which needs no help
        workers = 0 if dataset.features is not None else num_workers(settings.NUM_WORKERS)
        super().__init__(dataset, sampler, partial(collate_fn, pad_id=pad_id), workers)
