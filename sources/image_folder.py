"""Where the images of a raw folder lie: in a folder there, or in archives that are unpacked into the data folder."""

import os
from collections.abc import Iterable
from pathlib import Path

from basics.errors import UserError
from basics.paths import shown
from sources.archives import ARCHIVE_SUFFIXES, UNPACKED, unpack
from sources.raw_captions import RawCaptions

IMAGE_FOLDERS = (
    "Images",
    "images",
    "Flicker8k_Dataset",
    "Flickr8k_Dataset",
    "flickr8k_images",
    "flickr30k_images",
    "flickr30k-images",
    "Flickr30k",
    "train2014",
    "val2014",
    "train2017",
    "val2017",
    "photos",
)
SAMPLE = 200  # named images that a folder is judged by


def find_images(raw: RawCaptions, raw_dir: Path, data_path: Path) -> None:
    """Set raw.image_dir to the folder with the most of the first named images, unpacking archives where none has any.

    Raises UserError when there is no such folder.
    """
    sample = list(raw.captions)[:SAMPLE]
    found = fullest(folders_of(raw, raw_dir), sample)
    if found is None:
        found = fullest(unpack_images(raw, raw_dir, data_path), sample)
    if found is None:
        raise UserError(
            f"none of the images named in {raw.files[0]} ({shown(sample[0])[:60]} first) is in {raw_dir}; put the "
            f"pictures, or their archive, there (for example into {raw_dir / 'Images'})"
        )
    raw.image_dir = found


def fullest(folders: Iterable[Path], names: list[str]) -> Path | None:
    """The first of the folders that hold the most of the names, None where none holds any."""
    counts = {folder: sum(os.path.isfile(folder / name) for name in names) for folder in folders}
    best = max(counts, key=counts.__getitem__, default=None)
    return best if best and counts[best] else None


def folders_of(raw: RawCaptions, raw_dir: Path) -> list[Path]:
    """Where images may lie, the likeliest first; never what unpack() made of archives that may have changed since."""
    folders = [raw.files[0].parent, raw_dir, *(raw_dir / name for name in IMAGE_FOLDERS)]
    folders += [path for path in sorted(raw_dir.glob("*/")) + sorted(raw_dir.glob("*/*/")) if path not in folders]
    return [path for path in folders if not any(map(UNPACKED.fullmatch, path.parts))]


def unpack_images(raw: RawCaptions, raw_dir: Path, data_path: Path) -> list[Path]:
    """Unpack all archives of raw_dir, as COCO comes in one a split -> the folders in them, [] without archives."""
    raw.archives = sorted(path for path in raw_dir.iterdir() if path.name.endswith(ARCHIVE_SUFFIXES))
    if not raw.archives:
        return []
    unpacked = unpack(raw.archives, data_path)
    old = [path for path in data_path.iterdir() if UNPACKED.fullmatch(path.name) and path != unpacked]
    raw.notes += [f"{path} holds the pictures of other archives and is not used; delete it" for path in sorted(old)]
    return [unpacked, *sorted(path for path in unpacked.rglob("*") if path.is_dir())]
