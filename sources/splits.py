"""Which images are for training, for validation and for the test: always whole images, never single captions."""

import hashlib
from collections import defaultdict

from basics.errors import UserError
from basics.settings import Settings
from sources.raw_captions import RawCaptions

SPLITS = ("train", "val", "test")


def hash_split(key: str, seed: int, val_fraction: float, test_fraction: float) -> str:
    """The split of an image, from its key (its name) and the seed alone: adding files moves no other."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return "val" if place < val_fraction else "test" if place < val_fraction + test_fraction else "train"


def make_splits(raw: RawCaptions, settings: Settings) -> dict[str, list[str]]:
    """The official splits, else hashed ones. Raises UserError where one would be useless."""
    splits = official_splits(raw, settings) if raw.splits else hashed_splits(raw, settings)
    refuse_empty({split: len(names) for split, names in splits.items()}, raw.source)
    return splits


def refuse_empty(counts: dict[str, int], source: str) -> None:
    """Raises UserError where there is nothing to train on, or nothing to validate with."""
    for split in ("train", "val"):
        if not counts[split]:
            raise UserError(
                f"the {split} split of {source} is empty ({sum(counts.values()):,} images in all); "
                "more pictures or another VAL_FRACTION are needed"
            )


def official_splits(raw: RawCaptions, settings: Settings) -> dict[str, list[str]]:
    """What came with the data; a validation split that it lacks is held out of train."""
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    of_image = {name: split for split, names in raw.splits.items() for name in names}  # an image has one split
    for name in raw.captions:
        if name in of_image:
            splits[of_image[name]].append(name)
    if not splits["val"] and settings.VAL_FRACTION:
        raw.notes.append("no official validation split: held out of train by VAL_FRACTION")
        train, splits["train"] = splits["train"], []
        for name in train:
            splits[hash_split(raw.split_key(name), settings.SEED, settings.VAL_FRACTION, 0)].append(name)
    return splits


def hashed_splits(raw: RawCaptions, settings: Settings) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in raw.captions:
        key = raw.split_key(name)
        splits[hash_split(key, settings.SEED, settings.VAL_FRACTION, settings.TEST_FRACTION)].append(name)
    return splits


def duplicates(hashes: dict[str, str], group_of: dict[str, str]) -> list[list[str]]:
    """Names of images with the very same file in more than one group.

    In two splits, the model would be tested on what it learned.
    """
    same: dict[str, list[str]] = defaultdict(list)
    for name, digest in hashes.items():
        if name in group_of:
            same[digest].append(name)
    return [names for names in same.values() if len({group_of[name] for name in names}) > 1]
