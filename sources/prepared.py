"""Prepared data as it lies in DATA_DIR/<DATASET>/: captions.json, splits.json and dataset.json.

data = read_prepared(Path("data/flickr8k"))
data.captions_of("train")    ["A dog runs.", ...]
data.split("train")          its pictures by number: picture(7), references[7]

Where they come from shards, samples/ stands in the place of captions.json and splits.json (sources/shards/samples.py).
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from basics.errors import UserError, reason_of
from basics.paths import is_utf8, shown
from basics.stored import COUNT, Each, check, json_of
from sources.shards.picture import Picture
from sources.shards.samples import ShardData
from sources.splits import SPLITS

SAMPLES = "samples"  # of shards: the folder in DATA_DIR/<DATASET>/


class Split(Protocol):
    """The pictures of one split, by number."""

    @property
    def references(self) -> Sequence[list[str]]: ...
    @property
    def captions(self) -> Sequence[str]:
        """The references one after the other."""
        ...

    @property
    def counts(self) -> np.ndarray:
        """Captions a picture."""
        ...

    @property
    def shard_numbers(self) -> np.ndarray | None:
        """The shard that each picture lies in, if in any."""
        ...

    def __len__(self) -> int: ...
    def picture(self, number: int) -> Picture: ...
    def name(self, number: int) -> str:
        """What captions were made under: a file's name in its folder."""
        ...

    def fingerprint(self) -> str:
        """Changes where a picture's name, size or time does."""
        ...

    def captions_fingerprint(self) -> str:
        """Changes where any caption does."""
        ...

    def order_fingerprint(self) -> str:
        """Stays where a place in an epoch means the same pair, though the data were moved or copied."""
        ...


class FolderPictures:
    """What splits of files in a folder have in common, wherever their names and captions lie."""

    names: Sequence[str]
    image_dir: Path

    shard_numbers = None

    @property
    @abstractmethod
    def counts(self) -> np.ndarray: ...

    def picture(self, number: int) -> Path:
        return self.image_dir / self.names[number]

    def name(self, number: int) -> str:
        return self.names[number]

    def fingerprint(self) -> str:
        files = [(self.image_dir / name).stat() for name in self.names]
        pictures = [[name, file.st_size, file.st_mtime_ns] for name, file in zip(self.names, files)]
        return hashlib.sha256(json.dumps(pictures).encode()).hexdigest()

    def order_fingerprint(self) -> str:
        return hashlib.sha256(json.dumps([[*self.names], self.counts.tolist()]).encode()).hexdigest()[:16]


@dataclass
class FolderSplit(FolderPictures):
    """A Split of files in a folder, in memory."""

    names: list[str]
    references: list[list[str]]
    image_dir: Path

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def captions(self) -> list[str]:
        return [caption for captions in self.references for caption in captions]

    @property
    def counts(self) -> np.ndarray:
        return np.array([len(captions) for captions in self.references], dtype=np.int64)

    def captions_fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self.captions).encode()).hexdigest()


@dataclass
class PreparedData:
    """captions {name: [caption, ...]}, splits {"train" | "val" | "test": [name, ...]}, folder of the images."""

    captions: dict[str, list[str]]
    splits: dict[str, list[str]]
    image_dir: Path

    def captions_of(self, split: str) -> list[str]:
        return [caption for name in self.splits[split] for caption in self.captions[name]]

    def split(self, split: str) -> FolderSplit:
        names = list(self.splits[split])
        return FolderSplit(names, [self.captions[name] for name in names], Path(self.image_dir))


class AnyData(Protocol):
    """Prepared data, wherever they lie."""

    def captions_of(self, split: str) -> Sequence[str]: ...
    def split(self, split: str) -> Split: ...


def is_prepared(data_path: Path) -> bool:
    """Whether preparing came to its end, which is when dataset.json is written."""
    of_folder = all((data_path / name).is_file() for name in ("captions.json", "splits.json"))
    return (data_path / "dataset.json").is_file() and (of_folder or (data_path / SAMPLES).is_dir())


def read_prepared(data_path: Path) -> AnyData:
    """The files as they lie there. Raises UserError when they are damaged or the images have moved."""
    return read_shard_data(data_path) if (data_path / SAMPLES).is_dir() else read_folder_data(data_path)


def read_shard_data(data_path: Path) -> ShardData:
    manifest = data_path / "dataset.json"
    content = read_json(manifest, {"shards": [str], "counts": Each(COUNT), "inputs": {"shards": [[(str, int)]]}})
    stamps = content["inputs"]["shards"]
    if len(stamps) != len(content["shards"]) or any(len(stamp) < 2 for stamp in stamps):
        raise broken(manifest, "expected a size for each shard")
    for shard, (_, size, *_) in zip(content["shards"], stamps):
        if not Path(shard).is_file():
            raise UserError(f"the shard {shard} of {data_path} is missing; put it back, or name others with --shards")
        if (there := Path(shard).stat().st_size) != size:
            raise UserError(
                f"the shard {shard} has {there:,} bytes, {size:,} when {data_path} was prepared; put it back, or "
                "prepare again with --shards"
            )
    data = ShardData(data_path / SAMPLES, content["shards"], json.dumps(stamps))
    for split in SPLITS:
        if not data.split(split).is_whole(content["counts"].get(split, 0)):
            raise broken(manifest, f"{SAMPLES}/ does not hold the {split} split that it counts")
    return data


def read_folder_data(data_path: Path) -> PreparedData:
    captions, splits = (read_lists(data_path / name) for name in ("captions.json", "splits.json"))
    image_dir = data_path / read_json(data_path / "dataset.json", {"image_dir": str})["image_dir"]  # or absolute
    named = [name for names in splits.values() for name in names]
    if unknown := [name for name in named if name not in captions]:
        raise UserError(f"{data_path}/splits.json names {shown(unknown[0])}, which captions.json does not hold")
    if without := [name for name in named if not captions[name]]:
        raise UserError(
            f"{data_path}/captions.json has no caption for {shown(without[0])}, which stands in splits.json"
        )
    if not image_dir.is_dir():
        raise UserError(
            f"the images of {data_path} were in {image_dir}, which is gone; put them back, or name the folder "
            "with --raw-dir"
        )
    return PreparedData(captions, {split: splits.get(split, []) for split in SPLITS}, image_dir)


def read_json(path: Path, pattern: dict | Each) -> dict:
    """What is like a pattern of basics/stored.py. Raises UserError when it is anything else."""
    try:
        content = json_of(path)
        check(content, pattern, path.name)
        return content  # type: ignore[no-any-return]  # check() has looked
    except (OSError, ValueError) as error:
        raise broken(path, reason_of(error)) from error


def read_lists(path: Path) -> dict[str, list[str]]:
    """An object of lists of texts. Raises UserError when it is anything else."""
    content = read_json(path, Each([str]))
    for name, texts in content.items():
        if not is_utf8("".join([name, *texts])):
            raise broken(path, f"half a character in {shown(name)}")
    return content


def broken(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is damaged ({reason}); delete {path.parent}/dataset.json and prepare again")
