"""Datasets of any size by repetition: pictures under new names, captions beside them, in Flickr8k's form.

    source = read_captions(raw_dir, work_dir)
    write_raw(source, folder, num_pictures=4 * len(source.captions))
    write_raw(source, folder, num_pictures=len(source.captions), num_captions=600_000)

Pictures are links, so they need no disk, and a copy stands in the split of its picture. When the captions have all been
used they come back with their words shuffled; more of them for the same pictures get a number too, so that the
tokenizer does not see the same line twice. Copies of pictures get none: their captions stay as long as they were.
"""

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from sources.raw_captions import RawCaptions

EVERY = 10  # one picture of so many is for validation


def write_raw(source: RawCaptions, folder: Path, num_pictures: int, num_captions: int | None = None) -> None:
    """num_captions None: as many as the pictures have."""
    (folder / "Images").mkdir(parents=True)
    names = pictures_of(source)
    places, lists = [], {"trainImages": [], "devImages": []}
    for number in range(num_pictures):
        name = names[number % len(names)]
        copy = f"{number // len(names):03d}_{Path(name).name}"
        (folder / "Images" / copy).symlink_to((source.image_dir / name).resolve())
        lists["devImages" if number % len(names) % EVERY == EVERY - 1 else "trainImages"].append(copy)
        places += [copy] * len(source.captions[name])
    for part, copies in lists.items():
        (folder / f"Flickr_8k.{part}.txt").write_text("".join(f"{copy}\n" for copy in copies), encoding="utf-8")
    texts = repeated(
        [text for name in names[:num_pictures] for text in source.captions[name]], num_captions is not None
    )
    with open(folder / "Flickr8k.token.txt", "w", encoding="utf-8") as file:
        for number, text in enumerate(islice(texts, num_captions or len(places))):
            file.write(f"{places[number % len(places)]}#{number}\t{text}\n")


def pictures_of(source: RawCaptions) -> list[str]:
    return [name for name in source.captions if (source.image_dir / name).is_file()]


def repeated(captions: list[str], numbered: bool) -> Iterator[str]:
    """The captions, then again and again with their words in another order, a number behind them if asked for."""
    yield from captions
    rng = random.Random(0)
    while True:
        for caption in captions:
            words = caption.split()
            rng.shuffle(words)
            yield " ".join([*words, str(rng.randrange(10**5))] if numbered else words)
