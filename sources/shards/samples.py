"""Samples of shards as they lie in DATA_DIR/<DATASET>/samples/: arrays on the disk, of which nothing is held in memory.

    with writing_samples(folder, "train") as writer:
        writer.add(shard_number, sample)
    split = ShardSplit(folder, "train", ["shards/train-000000.tar"], stamp)
    split.picture(7), split.references[7]

Files of a split: .samples (shard, offset, size, end of its captions), .captions and .names (texts), and where each of
these ends.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from basics.files import file_hash
from basics.mapped import BYTE, Made, Mapped, span
from sources.shards.picture import ShardPicture
from sources.shards.scan import Sample

SAMPLE = np.dtype([("shard", "<u4"), ("offset", "<u8"), ("size", "<u4"), ("captions_end", "<u8")])
END = np.dtype("<u8")
PARTS = ("samples", "captions", "caption_ends", "names", "name_ends")


class SampleWriter:
    """Appends to the files of a split."""

    def __init__(self, files: dict[str, BinaryIO]):
        self.files, self.ends, self.num_captions = files, {"caption": 0, "name": 0}, 0

    def add(self, shard: int, sample: Sample) -> None:
        for caption in sample.captions:
            self.add_text("caption", caption)
        self.num_captions += len(sample.captions)
        picture = sample.picture
        self.add_text("name", f"{picture.member}\n{picture.called}" if picture.called else picture.member)
        record = np.array([(shard, picture.offset, picture.size, self.num_captions)], SAMPLE)
        self.files["samples"].write(record.tobytes())

    def add_text(self, kind: str, text: str) -> None:
        self.ends[kind] += self.files[f"{kind}s"].write(text.encode())
        self.files[f"{kind}_ends"].write(self.ends[kind].to_bytes(END.itemsize, "little"))


@contextlib.contextmanager
def writing_samples(folder: Path, split: str) -> Iterator[SampleWriter]:
    with contextlib.ExitStack() as opened:
        yield SampleWriter({part: opened.enter_context(open(folder / f"{split}.{part}", "wb")) for part in PARTS})


class Texts(Made[str]):
    """Many texts in one file."""

    def __init__(self, texts: Mapped, ends: Mapped):
        self.texts, self.ends = texts, ends

    def __len__(self) -> int:
        return len(self.ends)

    def made(self, number: int) -> str:
        start, end = span(self.ends.values, number)
        return self.texts.values[start:end].tobytes().decode()

    def is_whole(self, count: int) -> bool:
        """Whether there are so many, down to the end of the last."""
        return len(self) == count and len(self.texts) == (self.ends.values[-1] if count else 0)


class References(Made[list[str]]):
    """The captions of each picture."""

    def __init__(self, captions: Texts, samples: Mapped):
        self.captions, self.samples = captions, samples

    def __len__(self) -> int:
        return len(self.samples)

    def made(self, number: int) -> list[str]:
        return self.captions[slice(*span(self.samples.values["captions_end"], number))]


class Samples:
    """What lies in the files of a split."""

    def __init__(self, folder: Path, split: str):
        kinds = {"samples": SAMPLE, "caption_ends": END, "name_ends": END}
        parts = {part: Mapped(folder / f"{split}.{part}", kinds.get(part, BYTE)) for part in PARTS}
        self.files = [mapped.path for mapped in parts.values()]
        self.samples = parts["samples"]
        self.captions = Texts(parts["captions"], parts["caption_ends"])
        self.references = References(self.captions, self.samples)
        self.members = Texts(parts["names"], parts["name_ends"])

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def counts(self) -> np.ndarray:
        """Captions a picture."""
        return np.diff(self.samples.values["captions_end"].astype(np.int64), prepend=0)

    def captions_fingerprint(self) -> str:
        """Changes where any caption does."""
        return "-".join(file_hash(file.path) for file in (self.captions.texts, self.captions.ends))

    def is_whole(self, count: int) -> bool:
        """Whether the files hold so many samples, and as many captions as these say, whole."""
        if not all(path.is_file() for path in self.files) or len(self) != count:
            return False
        try:
            captions = int(self.samples.values["captions_end"][-1]) if count else 0
            return self.members.is_whole(count) and self.captions.is_whole(captions)
        except ValueError:  # a file cut within a number
            return False


class ShardSplit(Samples):
    """The pictures of one split, by number, as sources/prepared.py has those of a folder."""

    def __init__(self, folder: Path, split: str, shards: list[str], stamp: str):
        super().__init__(folder, split)
        self.shards, self.stamp = shards, stamp

    def picture(self, number: int) -> ShardPicture:
        sample = self.samples.values[number]
        member, _, called = self.members[number].partition("\n")
        shard = self.shards[int(sample["shard"])]
        return ShardPicture(shard, member, int(sample["offset"]), int(sample["size"]), called)

    def name(self, number: int) -> str:
        picture = self.picture(number)
        return picture.called or picture.member

    @property
    def shard_numbers(self) -> np.ndarray:
        """The shard of each picture: what is read together should lie together."""
        return np.asarray(self.samples.values["shard"])

    def fingerprint(self) -> str:
        """Changes where a shard's name, size or time does, or what was taken from it."""
        digest = hashlib.sha256(self.stamp.encode())
        digest.update(self.samples.path.read_bytes())
        return digest.hexdigest()

    def order_fingerprint(self) -> str:
        """Of the shards' names and sizes wherever they lie, and the place of each picture in them."""
        shards = [[place.split("?")[0].rpartition("/")[2], size] for place, size, *_ in json.loads(self.stamp)]
        return hashlib.sha256(json.dumps([shards, file_hash(self.samples.path)]).encode()).hexdigest()[:16]


class ShardData:
    """What PreparedData is to a folder of pictures."""

    def __init__(self, folder: Path, shards: list[str], stamp: str):
        self.folder, self.shards, self.stamp = folder, shards, stamp

    def captions_of(self, split: str) -> Texts:
        return self.split(split).captions

    def split(self, split: str) -> ShardSplit:
        return ShardSplit(self.folder, split, self.shards, self.stamp)
