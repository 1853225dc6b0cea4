"""Image-caption pairs as batches: every caption of every image is one example.

    dataset = ImageTextDataset(data, "train", tokenizer, image_processor, settings)
    loader = make_loader(dataset, settings, tokenizer.pad_id, shuffle=True)
    start_epoch(loader, epoch=3, start_batch=0)
    batch = next(iter(loader))
        images                (U, 3, H, W)  float, each different image once; with cached features (U, S, E)
        image_numbers         (U,)          their places in the split
        caption_numbers       (B,)          their places among the dataset's captions
        image_index           (B,)          the image of each caption; None: each has B / U, side by side
        decoder_input_tokens  (B, T)        <s> w1 w2 ...
        target_tokens         (B, T)        w1 w2 ... </s>
        target_mask           (B, T)        True = real token, False = padding

U images, B captions, T tokens of the longest caption. Order and augmentation are pure functions of seed, epoch and
position, so a run can continue in the middle of an epoch, whatever the number of workers.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2

from basics.settings import Settings
from networks.encoder import prepare_pixels
from sources.images import load_image
from tokenizer import CaptionTokenizer


class ImageTextDataset(Dataset):
    """Pairs (image, caption) of one split; rows are {"image", "image_number", "caption_number", "tokens"}.

    mix_in() adds one more caption an image, shown at a set share in the place of the others. Raises ImageError when a
    picture can no longer be read.
    """

    def __init__(self, data, split: str, tokenizer: CaptionTokenizer, image_processor, settings: Settings):
        self.image_dir = Path(data.image_dir)
        self.names = list(data.splits[split])
        self.references = [data.captions[name] for name in self.names]
        self.split, self.image_processor = split, image_processor
        self.augment = settings.AUGMENT and split == "train"
        self.mirror = settings.AUGMENT_MIRROR
        self.views = settings.AUGMENT_VIEWS if self.augment and settings.CACHE_FEATURES else 1
        self.features = None  # features.Features: read instead of pictures
        self.seed, self.epoch = settings.SEED, 0
        counts = [len(captions) for captions in self.references]
        self.image_numbers = np.repeat(np.arange(len(self.names)), counts)  # (pairs,) the image of each pair
        self.captions = [caption for captions in self.references for caption in captions]
        self.max_seq_len, self.tokens = settings.MAX_SEQ_LEN, []
        self.mixed_in = 0.0  # share of pairs whose caption is the one mixed in
        self.add_tokens(self.captions, tokenizer)

    def add_tokens(self, captions: list[str], tokenizer: CaptionTokenizer) -> None:
        ids = (cut(ids, self.max_seq_len) for ids in tokenizer.encode_each(captions))
        self.tokens += [np.array(row, dtype=np.int32) for row in ids]  # a third of the memory of lists

    def mix_in(self, captions: list[str], share: float, tokenizer: CaptionTokenizer) -> None:
        """One more caption an image; that of image i gets the number len(self) + i and is shown at the share."""
        self.captions, self.mixed_in = self.captions + captions, share
        self.add_tokens(captions, tokenizer)

    def __len__(self) -> int:
        return len(self.image_numbers)

    def __getitem__(self, index: int) -> dict:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict]:
        """Rows of a whole batch, where each different image is read once."""
        numbers = self.image_numbers[indices].tolist()
        different = list(dict.fromkeys(numbers))
        images = dict(zip(different, self.images(different)))
        captions = [self.shown_caption(index) for index in indices] if self.mixed_in else indices
        return [
            {"image": images[number], "image_number": number, "caption_number": caption, "tokens": self.tokens[caption]}
            for number, caption in zip(numbers, captions)
        ]

    def shown_caption(self, pair: int) -> int:
        """The caption an epoch shows of a pair: its own, or the one mixed in."""
        random = np.random.default_rng((self.seed, self.epoch, pair)).random()
        return pair if random >= self.mixed_in else len(self) + int(self.image_numbers[pair])

    def captions_by_image(self) -> list[list[int]]:
        """The numbers of each image's captions, the one mixed in last."""
        numbers = [[] for _ in self.names]
        for caption in range(len(self.captions)):
            numbers[self.image_of(caption)].append(caption)
        return numbers

    def image_of(self, caption: int) -> int:
        return int(self.image_numbers[caption]) if caption < len(self) else caption - len(self)

    def path(self, number: int) -> Path:
        return self.image_dir / self.names[number]

    @property
    def augmentation(self) -> list | None:
        """What decides the views of a picture."""
        return [self.seed, self.mirror] if self.augment else None

    def images(self, numbers: list[int]) -> Tensor:
        """What training reads: pixels (U, 3, H, W), or cached features (U, S, E) of one view of each picture."""
        read = self.pixels if self.features is None else self.features.read
        return read(numbers, [self.view(number) for number in numbers])

    def view(self, number: int) -> int:
        """The view an epoch shows of a picture: a new one, or of those in the cache all in turn, in its own order."""
        if self.features is None:
            return self.epoch + 1
        place = np.random.default_rng((self.seed, number)).integers(self.views)
        return int(place + self.epoch) % self.views

    def pixels(self, numbers: list[int], views: list[int]) -> Tensor:
        """Pictures through augmentation and the encoder's preprocessing, (U, 3, H, W); view 0 is the picture itself."""
        return prepare_pixels(self.image_processor, [self.image(*place) for place in zip(numbers, views)])

    def image(self, number: int, view: int) -> Image.Image:
        image = load_image(self.path(number))
        return augment(image, (self.seed, view, number), self.mirror) if self.augment and view else image


def cut(ids: list[int], max_seq_len: int) -> list[int]:
    """At most max_seq_len tokens, the last one still </s>."""
    return ids if len(ids) <= max_seq_len else [*ids[: max_seq_len - 1], ids[-1]]


def augment(image: Image.Image, seed: tuple[int, ...], mirror: bool = False) -> Image.Image:
    """A random crop of at least 80% of the area and light colour jitter, the same for the same seed.

    mirror: half of the pictures left to right, for captions that do not say left and right.
    """
    width, height = image.size
    ratio = width / height
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        image = v2.RandomResizedCrop((height, width), scale=(0.8, 1.0), ratio=(0.9 * ratio, 1.1 * ratio))(image)
        image = v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2)(image)
        return v2.RandomHorizontalFlip(0.5 if mirror else 0.0)(image)


def collate_fn(rows: list[dict], pad_id: int) -> dict[str, Tensor]:
    """Rows of ImageTextDataset -> the batch described above, padded to its longest caption."""
    first_row = {}  # image number -> position among the batch's images
    for row in rows:
        first_row.setdefault(row["image_number"], (len(first_row), row["image"]))
    longest = max(len(row["tokens"]) for row in rows)
    tokens = torch.full((len(rows), longest), pad_id)
    lengths = torch.tensor([len(row["tokens"]) for row in rows])
    for i, row in enumerate(rows):
        tokens[i, : len(row["tokens"])] = torch.from_numpy(row["tokens"])
    image_index = torch.tensor([first_row[row["image_number"]][0] for row in rows])
    even = torch.arange(len(first_row)).repeat_interleave(-(-len(rows) // len(first_row)))
    return {
        "images": torch.stack([image for _, image in first_row.values()]),
        "image_numbers": torch.tensor(list(first_row)),
        "caption_numbers": torch.tensor([row["caption_number"] for row in rows]),
        "image_index": None if torch.equal(image_index, even) else image_index,
        "decoder_input_tokens": tokens[:, :-1],
        "target_tokens": tokens[:, 1:],
        "target_mask": torch.arange(longest - 1) < lengths[:, None] - 1,
    }


class CaptionBatchSampler(Sampler):
    """Batches of pair indices; the order depends on seed and epoch alone, and `start_batch` skips what was done.

    grouped keeps an image's captions side by side, so that most of a batch shares its images.
    """

    def __init__(self, image_numbers: np.ndarray, batch_size: int, *, seed: int = 0, grouped: bool, shuffle: bool):
        self.image_numbers, self.batch_size, self.seed = image_numbers, batch_size, seed
        self.grouped, self.shuffle = grouped, shuffle
        self.epoch = self.start_batch = 0

    def __len__(self) -> int:
        return -(-len(self.image_numbers) // self.batch_size) - self.start_batch

    def __iter__(self) -> Iterator[list[int]]:
        order = self.order()
        starts = range(self.start_batch * self.batch_size, len(order), self.batch_size)
        return iter([order[start : start + self.batch_size].tolist() for start in starts])

    def order(self) -> np.ndarray:
        pairs = np.arange(len(self.image_numbers))
        if not self.shuffle:
            return pairs
        random = np.random.default_rng((self.seed, self.epoch))
        if not self.grouped:
            return random.permutation(pairs)
        place = random.permutation(self.image_numbers.max() + 1)  # each image's place in the epoch
        return np.argsort(place[self.image_numbers], kind="stable")


def make_loader(dataset: ImageTextDataset, settings: Settings, pad_id: int, *, shuffle: bool) -> DataLoader:
    """Batches of BATCH_SIZE pairs; start_epoch() moves it to an epoch and a batch within it."""
    sampler = CaptionBatchSampler(
        dataset.image_numbers, settings.BATCH_SIZE, seed=settings.SEED, grouped=settings.GROUP_CAPTIONS, shuffle=shuffle
    )
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=partial(collate_fn, pad_id=pad_id),
        num_workers=0 if dataset.features is not None else settings.NUM_WORKERS,  # a copy of memory needs no help
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # its own: a loader must not draw from the generator that dropout uses
    )


def to_device(batch: dict[str, Tensor | None], device: torch.device) -> dict[str, Tensor | None]:
    return {name: tensor if tensor is None else tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def start_epoch(loader: DataLoader, epoch: int, start_batch: int) -> None:
    loader.dataset.epoch = loader.batch_sampler.epoch = epoch
    loader.batch_sampler.start_batch = start_batch
