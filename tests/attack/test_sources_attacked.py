"""Hostile pictures and captions files end in pictures and captions, or in one line that names the file."""

import os
import random
import threading

import pytest
from attack.captions_files import CAPTIONS_FILES, write_captions_file
from attack.pictures import PICTURES, write_picture
from PIL import Image

from basics.errors import UserError
from sources.images import load_image
from sources.reading import read_captions

CASES = int(os.environ.get("ATTACK_CASES", "300"))


def numbers(kinds):
    return range(max(CASES // 2 // len(kinds), 1))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", PICTURES)
def test_a_hostile_picture_is_read_or_refused_in_one_line(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in numbers(PICTURES):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = write_picture(random.Random(f"{kind} {number}"), folder, kind)
        try:
            image = load_image(path)
        except UserError as error:
            assert str(error).isprintable() and str(error).startswith("cannot read "), number
        else:
            assert image.mode == "RGB" and max(image.size) <= 200 * min(image.size), number


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", CAPTIONS_FILES)
def test_a_hostile_captions_file_is_read_or_refused_in_one_line(kind, tmp_path):
    for number in numbers(CAPTIONS_FILES):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in ("a.png", "b.png"):
            Image.new("L", (2, 2)).save(folder / name)
        write_captions_file(random.Random(f"{kind} {number}"), folder, kind)
        try:
            raw = read_captions(folder, tmp_path / "data")
        except UserError as error:
            assert len(str(error).splitlines()) == 1 and str(folder) in str(error), number
        else:
            texts = [text for name, captions in raw.captions.items() for text in (name, *captions)]
            assert texts and all(isinstance(text, str) and text.encode() is not None for text in texts), number
    assert threading.active_count() < 50
