"""Large pictures are prepared as they are decoded: few are held at once, and the pixels are the same."""

import weakref

import pytest
import torch
from PIL import Image
from tiny import tiny_model

from captioner import picture_files
from captioner.picture_files import caption_picture_files
from networks import encoder
from networks.decoding_options import DecodingOptions
from networks.encoder import prepare_pixels
from sources.images import load_image


@pytest.fixture
def paths(tmp_path):
    places = [tmp_path / f"{i}.png" for i in range(9)]
    for i, path in enumerate(places):
        Image.new("RGB", (20 + i % 2, 10), (i, 0, 0)).save(path)
    places[3].write_bytes(b"broken")
    return [*places, tmp_path / "gone.png"]


class Shape:
    """A captioner that says how red a picture is; `batches` has the size of each it got."""

    def __init__(self, image_processor):
        self.image_processor, self.batches = image_processor, []

    def caption_images(self, images, options):
        pixels = prepare_pixels(self.image_processor, images)
        self.batches.append(len(pixels))
        return [[(str(round(float(row[0].mean()), 4)), None)] for row in pixels]


@pytest.mark.parametrize("held", [1, 450, 10**9])
def test_batches_are_full_and_every_picture_gets_its_own_captions(paths, monkeypatch, held):
    captioner = Shape(tiny_model()[1])
    [expected] = zip(*(caption_picture_files(captioner, [path], DecodingOptions(), 1) for path in paths))
    captioner.batches.clear()
    monkeypatch.setattr(encoder, "HELD", held)
    found = list(caption_picture_files(captioner, paths, DecodingOptions(), 3))
    assert found == list(expected) and captioner.batches == [3, 3, 2]
    assert [f.path for f in found] == paths and [i for i, f in enumerate(found) if f.error] == [3, 9]


def test_few_large_pictures_are_held_at_once(paths, monkeypatch):
    alive, most = [], []

    def load(path):
        image = load_image(path)
        alive.append(path)
        weakref.finalize(image, alive.remove, path)
        most.append(len(alive))
        return image

    monkeypatch.setattr(picture_files, "load_image", load)
    monkeypatch.setattr(encoder, "HELD", 1)
    assert len(list(caption_picture_files(Shape(tiny_model()[1]), paths, DecodingOptions(), 9))) == len(paths)
    assert max(most) == 1


def test_pixels_are_the_same_in_however_many_parts(paths, monkeypatch):
    image_processor, images = tiny_model()[1], [load_image(path) for path in paths if path.stem not in ("3", "gone")]
    whole = prepare_pixels(image_processor, images)
    monkeypatch.setattr(encoder, "HELD", 450)
    assert torch.equal(prepare_pixels(image_processor, iter(images)), whole)
