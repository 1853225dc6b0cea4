"""Captions of picture files: each is decoded once, what cannot be read is named, and the others go on.

for found in caption_picture_files(captioner, paths, DecodingOptions(beam_size=3), batch_size=32):
    found.path, found.captions          # [(text, Caption), ...], best first; found.error where it cannot be read
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Protocol

from PIL import Image

from networks.caption import Captioned
from networks.decoding_options import DecodingOptions
from sources.images import ImageError, load_image
from sources.shards.picture import Picture


class PictureCaptioner(Protocol):
    """What captions RGB pictures, which are decoded as it takes them: for each its captions, best first."""

    def caption_images(self, images: Iterable[Image.Image], options: DecodingOptions) -> list[list[Captioned]]: ...


@dataclass
class Found:
    """A picture's captions, best first, or why it has none."""

    path: Picture
    captions: list[Captioned] = field(default_factory=list)
    error: str | None = None


def caption_picture_files(
    captioner: PictureCaptioner, paths: list[Picture], options: DecodingOptions, batch_size: int
) -> Iterator[Found]:
    """What was found of each picture, in order; batches are full whatever pictures are left out."""
    read: list[Found] = []
    images = readable_images(paths, read)
    for image in images:
        batch = chain(iter([image]), islice(images, batch_size - 1))  # of which chain() holds none that is taken
        del image  # the captioner lets it go when it is prepared
        yield from fill_in(read, captioner.caption_images(batch, options))
        read.clear()
    yield from read


def readable_images(paths: list[Picture], read: list[Found]) -> Iterator[Image.Image]:
    """Each picture that can be read, when it is asked for; what was found of all so far is added to `read`."""
    for path in paths:
        try:
            image = load_image(path)
        except ImageError as error:
            read.append(Found(path, error=str(error)))
            continue
        read.append(Found(path))
        yield image
        del image


def fill_in(read: list[Found], captions: list[list[Captioned]]) -> list[Found]:
    """Put the captions into what could be read."""
    rows = iter(captions)
    for found in read:
        if found.error is None:
            found.captions = next(rows)
    return read
