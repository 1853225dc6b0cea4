"""A picture inside a tar file, addressed by the place of its bytes: nothing is ever unpacked.

picture = ShardPicture("shards/val-000000.tar", "000000001.jpg", 512, 40_212)
str(picture)                # shards/val-000000.tar/000000001.jpg, which picture_at() finds again
load_image(picture)         # as of a file
"""

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class ShardPicture:
    """What a Path is to a picture of a folder; called is the picture's own name, where it came from a folder."""

    shard: str
    member: str
    offset: int
    size: int
    called: str = ""

    @property
    def name(self) -> str:
        return PurePosixPath(self.called or self.member).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    def __str__(self) -> str:
        return f"{self.shard}/{self.member}"

    def read_bytes(self) -> bytes:
        with open(self.shard, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    def open(self) -> io.BytesIO:
        return io.BytesIO(self.read_bytes())


Picture = Path | ShardPicture


def picture_at(path: Path) -> ShardPicture | None:
    """What shard.tar/key.jpg names; None where that is no file in a tar."""
    shard = next((parent for parent in path.parents if parent.suffix == ".tar" and parent.is_file()), None)
    if shard is None:
        return None
    try:
        with tarfile.open(shard, "r:") as content:
            member = content.getmember(path.relative_to(shard).as_posix())
    except (tarfile.TarError, KeyError):
        return None
    return ShardPicture(str(shard), member.name, member.offset_data, member.size) if is_plain(member) else None


def is_plain(member: tarfile.TarInfo) -> bool:
    """Whether its bytes lie in the archive as they are: no link, no device, no file with holes."""
    return member.isreg() and not member.issparse()
