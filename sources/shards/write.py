"""Prepared data as tar shards in webdataset's layout, with the very bytes of its pictures and the same bytes each time.

write_shards(read_prepared(Path("data/flickr8k")), Path("shards"), ShardLimits(num_bytes=500_000_000))
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from basics.errors import UserError
from basics.files import atomic_folder, write_atomically
from basics.progress_bar import progress_bar
from sources.images import IMAGE_SUFFIXES
from sources.prepared import AnyData, Split
from sources.shards.index_file import INDEX, Listed, index_text
from sources.splits import SPLITS

HEADERS = 4 * 512  # bytes a sample may take in a tar beside its two files: headers and what fills up their blocks
MOST_DIGITS = 6  # of a shard's number


@dataclass(frozen=True)
class ShardLimits:
    """How much goes into a shard: pictures where given, else bytes."""

    num_bytes: int
    pictures: int | None = None

    def reached(self, pictures: int, num_bytes: int) -> bool:
        return pictures >= self.pictures if self.pictures else num_bytes > self.num_bytes


class HashedFile:
    """A file that is written once from front to back, with its size and checksum."""

    def __init__(self, file: BinaryIO):
        self.file, self.digest, self.num_bytes = file, hashlib.sha256(), 0

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        self.num_bytes += len(content)
        return self.file.write(content)


def write_shards(data: AnyData, output: Path, limits: ShardLimits) -> list[Listed]:
    """Every split into shards of a new folder, which is there when all is written -> its index. Raises UserError."""
    splits = {name: data.split(name) for name in SPLITS}
    shards: list[Listed] = []
    bar = progress_bar(total=sum(map(len, splits.values())), desc="writing shards", unit=" pictures")
    with atomic_folder(output) as fresh, bar:
        for name, split in splits.items():
            for number, part in enumerate(parts(split, limits)):
                shards.append(write_shard(fresh / f"{name}-{number:0{MOST_DIGITS}}.tar", split, part))
                bar.update(len(part))
        write_atomically(fresh / INDEX, index_text(shards))
    return shards


def parts(split: Split, limits: ShardLimits) -> Iterator[range]:
    """The pictures of each shard, in the split's own order."""
    start = num_bytes = 0
    for number in range(len(split)):
        more = HEADERS + size_of_file(split, number)
        if number > start and limits.reached(number - start, num_bytes + more):
            yield range(start, number)
            start, num_bytes = number, 0
        num_bytes += more
    if len(split) > start:
        yield range(start, len(split))


def size_of_file(split: Split, number: int) -> int:
    picture = split.picture(number)
    return picture.stat().st_size if isinstance(picture, Path) else picture.size


def write_shard(path: Path, split: Split, numbers: range) -> Listed:
    from webdataset.writer import TarWriter  # imports torch, which takes seconds: after the flags

    captions = 0
    with open(path, "wb") as file:
        hashed = HashedFile(file)
        with TarWriter(hashed, mtime=0) as tar:  # of a time of their own shards would differ each time
            for number in numbers:
                captions += len(split.references[number])
                tar.write(sample_to_write(split, number))
        file.flush()
        os.fsync(file.fileno())
    return {
        "name": path.name,
        "samples": len(numbers),
        "captions": captions,
        "bytes": hashed.num_bytes,
        "sha256": hashed.digest.hexdigest(),
    }


def sample_to_write(split: Split, number: int) -> dict[str, str | bytes]:
    """The picture's file as it is and its captions, under its number: names may hold dots and folders, keys may not."""
    picture = split.picture(number)
    suffix = picture.suffix.lower()
    record = json.dumps({"captions": split.references[number], "name": split.name(number)}, ensure_ascii=False)
    try:
        content = picture.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {picture}: {error.strerror}; put it back, or prepare the data again") from error
    kind = suffix[1:] if suffix in IMAGE_SUFFIXES else "jpg"  # what it is decoded as, its bytes say
    return {"__key__": f"{number:09}", kind: content, "json": record.encode()}
