"""Shards into the samples of each split: scanned, checked, counted, written.

collected = collect(find_shards(...), data_path / "samples", settings, ("txt",))
collected.counts        # {"train": 6000, "val": 1000, "test": 0}
collected.bad           # {"train-000000.tar/000000007": "no picture"}
"""

import contextlib
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from basics.errors import UserError
from basics.files import atomic_folder
from basics.progress_bar import progress_bar
from basics.settings import Settings
from sources.images import LARGE, ImageError, load_image, pixels_of_file
from sources.pixel_budget import PixelBudget
from sources.raw_captions import SPLIT_NAMES
from sources.shards.found import Shard, refuse_changed
from sources.shards.picture import ShardPicture
from sources.shards.samples import writing_samples
from sources.shards.scan import Sample, Scanned, scan
from sources.splits import SPLITS, hash_split

OF_A_SPLIT = re.compile(rf"({'|'.join(SPLIT_NAMES)})[-_.\d]")
Problem = Callable[[int], str]
Chooses = Callable[[Shard, Sample], str]


@dataclass
class Collected:
    """What the report says of them."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    bad: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    foreign: int = 0


def collect(
    shards: list[Shard], folder: Path, settings: Settings, text_files: tuple[str, ...], problem: Problem
) -> Collected:
    """Write the samples of every split into the folder, whole or not at all; problem says why so many texts are wrong.

    Pictures are decoded once, as those of folders are, but for shards whose index vouches for them. Raises UserError.
    """
    collected = Collected()
    split_of = chosen_splits(shards, settings, collected.notes)
    total = sum(shard.listed["samples"] if shard.listed else 0 for shard in shards)
    bar = progress_bar(total=total or None, desc="reading shards", unit=" pictures")
    check = PictureCheck(settings.MAX_IMAGE_MEGAPIXELS)
    with bar, check, atomic_folder(folder) as fresh, contextlib.ExitStack() as files:
        writers = {split: files.enter_context(writing_samples(fresh, split)) for split in SPLITS}
        for number, shard in enumerate(shards):
            refuse_changed(shard)
            for sample in good_samples(shard, scan(shard.path, text_files), problem, check, collected, bar.update):
                split = split_of(shard, sample)
                writers[split].add(number, sample)
                collected.counts[split] += 1
    if collected.foreign:
        collected.notes.append(f"{collected.foreign:,} members of shards are of no known kind and were not read")
    return collected


def good_samples(
    shard: Shard,
    found: Scanned,
    problem: Problem,
    check: "PictureCheck",
    collected: Collected,
    tick: Callable[[], object],
) -> list[Sample]:
    """Those of a shard that can be used; the others are noted in `collected`."""
    collected.foreign += found.foreign
    if not found.samples:
        collected.notes.append(f"{shard.place} holds no samples")
    bad = {f"{shard.name}/{key}": reason for key, reason in found.bad}
    good = []
    for sample, error in zip(found.samples, check.errors(found.samples, vouched=shard.listed is not None)):
        tick()
        if error := error or problem(len(sample.captions)):
            bad[f"{shard.name}/{sample.key}"] = error
        else:
            good.append(sample)
    collected.bad |= bad
    return good


class PictureCheck:
    """Threads that decode pictures to see whether they can be."""

    def __init__(self, max_megapixels: float):
        self.max_megapixels, self.budget, self.pool = max_megapixels, PixelBudget(2 * LARGE), ThreadPoolExecutor()

    def __enter__(self) -> None:
        self.pool.__enter__()

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def errors(self, samples: list[Sample], vouched: bool) -> Iterable[str]:
        """Why each cannot be read, "" where it can. write_shards.py made vouched ones from pictures that it could."""
        return [""] * len(samples) if vouched else self.pool.map(self.error, (sample.picture for sample in samples))

    def error(self, picture: ShardPicture) -> str:
        try:
            with self.budget.of(pixels_of_file(picture)):
                load_image(picture, self.max_megapixels)
        except (ImageError, OSError) as error:
            return str(error)
        return ""


def chosen_splits(shards: list[Shard], settings: Settings, notes: list[str]) -> Chooses:
    """Which split a sample is in: by the name of its shard, or by a hash of its key where names say nothing.

    Where no shard is for validation it is held out of train, as of folders.
    """
    named = {shard.place: SPLIT_NAMES[match[1]] for shard in shards if (match := OF_A_SPLIT.match(shard.name))}
    if named and len(named) < len(shards):
        other = next(shard.name for shard in shards if shard.place not in named)
        raise UserError(f"some shards are named by their split, {other} is not; call it train-, val- or test-{other}")
    seed, val, test = settings.SEED, settings.VAL_FRACTION, settings.TEST_FRACTION
    if not named:
        return lambda shard, sample: hash_split(sample.key, seed, val, test)
    if "val" in named.values() or not val:
        return lambda shard, sample: named[shard.place]
    notes.append("no shard for validation: held out of train by VAL_FRACTION")
    return lambda shard, sample: (
        hash_split(sample.key, seed, val, 0) if named[shard.place] == "train" else named[shard.place]
    )
