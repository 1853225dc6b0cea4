"""Answers to picture files: each is decoded once, what cannot be read is named, and the others go on.

for found in caption_picture_files(captioner, paths, DecodingOptions(beam_size=3), batch_size=32):
    found.path, found.answers           # [(text, Caption), ...], best first; found.error where it cannot be read
for found in answer_picture_files(classifier.classify_images, paths, batch_size=32):
    found.answers                       # [(label, probability), ...]
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Generic, Protocol, TypeVar

from PIL import Image

from networks.caption import Captioned
from networks.decoding_options import DecodingOptions
from sources.images import ImageError, load_image
from sources.shards.picture import Picture

A = TypeVar("A")  # an answer: a caption, a label
Answer = Callable[[Iterable[Image.Image]], list[list[A]]]  # RGB pictures, decoded as it takes them; best answers first


class PictureCaptioner(Protocol):
    """What captions RGB pictures, which are decoded as it takes them: for each its captions, best first."""

    def caption_images(self, images: Iterable[Image.Image], options: DecodingOptions) -> list[list[Captioned]]: ...


@dataclass
class Found(Generic[A]):
    """A picture's answers, best first, or why it has none."""

    path: Picture
    answers: list[A] = field(default_factory=list)
    error: str | None = None


def caption_picture_files(
    captioner: PictureCaptioner, paths: list[Picture], options: DecodingOptions, batch_size: int
) -> Iterator[Found[Captioned]]:
    """What was found of each picture, in order; batches are full whatever pictures are left out."""
    return answer_picture_files(lambda images: captioner.caption_images(images, options), paths, batch_size)


def answer_picture_files(answer: Answer[A], paths: list[Picture], batch_size: int) -> Iterator[Found[A]]:
    """The same of whatever has answers to pictures."""
    read: list[Found[A]] = []
    images = readable_images(paths, read)
    for image in images:
        batch = chain(iter([image]), islice(images, batch_size - 1))  # of which chain() holds none that is taken
        del image  # it is let go when it is prepared
        yield from fill_in(read, answer(batch))
        read.clear()
    yield from read


def readable_images(paths: list[Picture], read: list[Found[Any]]) -> Iterator[Image.Image]:
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


def fill_in(read: list[Found[A]], answers: list[list[A]]) -> list[Found[A]]:
    """Put the answers into what could be read."""
    rows = iter(answers)
    for found in read:
        if found.error is None:
            found.answers = next(rows)
    return read
