"""Captions of picture files: each is decoded once, what cannot be read is named, and the others go on.

for found in caption_picture_files(captioner, paths, DecodingOptions(beam_size=3), batch_size=32):
    found.path, found.captions          # [(text, Caption), ...], best first; found.error where it cannot be read
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from PIL import Image

from networks.caption import Captioned
from networks.decoding_options import DecodingOptions
from sources.images import ImageError, load_image


class PictureCaptioner(Protocol):
    """What captions decoded RGB pictures: for each its captions, best first."""

    def caption_images(self, images: list[Image.Image], options: DecodingOptions) -> list[list[Captioned]]: ...


@dataclass
class Found:
    """A picture's captions, best first, or why it has none."""

    path: Path
    captions: list[Captioned] = field(default_factory=list)
    error: str | None = None


def caption_picture_files(
    captioner: PictureCaptioner, paths: list[Path], options: DecodingOptions, batch_size: int
) -> Iterator[Found]:
    """What was found of each picture, in order; batches are full whatever pictures are left out."""
    waiting, images = [], []
    for path in paths:
        try:
            images.append(load_image(path))
            waiting.append(Found(path))
        except ImageError as error:
            waiting.append(Found(path, error=str(error)))
        if len(images) == batch_size:
            yield from fill_in(captioner, waiting, images, options)
            waiting, images = [], []
    yield from fill_in(captioner, waiting, images, options)


def fill_in(
    captioner: PictureCaptioner, waiting: list[Found], images: list[Image.Image], options: DecodingOptions
) -> list[Found]:
    """Put the captions of the images into those that wait for them."""
    captions = iter(captioner.caption_images(images, options) if images else [])
    for found in waiting:
        if found.error is None:
            found.captions = next(captions)
    return waiting
