"""Pictures that would eat memory, wait for ever or run a program are one line; what is large comes smaller."""

import os
import random

import numpy as np
import pytest
from attack.pictures import make_loop, make_socket, png
from PIL import EpsImagePlugin, Image
from tiny import ROOT

from basics.errors import UserError
from basics.timing import run_python
from sources import images, pixels
from sources.images import ImageError, find_pictures, load_image
from sources.prepare import check_images


def reason(path, **limit) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(path, **limit)
    assert str(caught.value).isprintable() and str(caught.value).startswith("cannot read ")
    return str(caught.value).partition(": ")[2]


def noise(mode: str, size=(40, 30)) -> Image.Image:
    if mode.startswith("I;16") or mode in ("F", "I"):
        numbers = np.random.default_rng(0).integers(0, 65536, size[::-1])
        return Image.fromarray(numbers.astype({"F": np.float32, "I": np.int32}.get(mode, np.uint16)))
    raw = random.Random(mode).randbytes(4 * size[0] * size[1])
    colours = Image.frombytes("RGBA", size, raw)
    return colours if mode == "RGBA" else colours.convert(mode if mode in ("L", "LA") else "RGB").convert(mode)


@pytest.mark.parametrize(
    "make, expected",
    [
        (os.mkfifo, "it is a pipe"),
        (make_socket, "it is a socket"),
        (os.mkdir, "it is a folder"),
        (lambda path: os.symlink("gone", path), "it is a link to what is gone"),
        (make_loop, "it is damaged"),
        (lambda path: os.symlink("/dev/zero", path), "it is a device"),
    ],
)
def test_what_is_no_regular_file_is_said_and_not_waited_for(tmp_path, monkeypatch, make, expected):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "a.jpg")
    assert reason(tmp_path / "a.jpg").startswith(expected)


def test_pipes_and_links_to_nothing_are_found_in_folders_and_patterns_so_that_they_are_said(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").symlink_to("gone.jpg")
    (tmp_path / "c.jpg").mkdir()  # a folder whatever its name
    for pattern in (str(tmp_path), str(tmp_path / "*.jpg")):
        assert find_pictures([pattern]) == [tmp_path / "a.jpg", tmp_path / "b.jpg"]


def test_names_that_are_no_utf8_or_break_a_line_are_read_and_shown_on_one_line(tmp_path):
    for name in (b"caf\xe9.png", b"two\nlines.png"):
        path = tmp_path / os.fsdecode(name)
        Image.new("RGB", (4, 4)).save(path)
        assert find_pictures([str(tmp_path)]).count(path) == 1 and load_image(path).size == (4, 4)
        path.write_bytes(b"text")
        assert "it is no picture" in reason(path)


def test_postscript_under_another_name_reaches_no_program(tmp_path, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("it was run"))
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    assert reason(tmp_path / "a.jpg") == "it is no picture (JPEG, PNG, GIF, WEBP, BMP, TIFF)"


@pytest.mark.parametrize(
    "width, height, expected", [(2000, 1000, "2000 x 1000"), (60_000, 60_000, "pixels"), (1, 900, "200")]
)
def test_what_is_too_large_or_too_thin_is_refused_by_its_head(tmp_path, monkeypatch, width, height, expected):
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("it was decoded"))
    (tmp_path / "a.png").write_bytes(png(width, height, 2))
    assert expected in reason(tmp_path / "a.png", max_megapixels=1)


def test_a_large_jpeg_is_decoded_smaller_where_others_are_refused(tmp_path):
    for suffix in ("jpg", "png"):
        Image.new("RGB", (400, 200), "red").save(tmp_path / f"a.{suffix}")
    assert load_image(tmp_path / "a.jpg", 0.01).size == (100, 50)
    assert "MAX_IMAGE_MEGAPIXELS" in reason(tmp_path / "a.png", max_megapixels=0.01)


@pytest.mark.parametrize("suffix, options", [("webp", {}), ("tif", {"tiffinfo": {278: 100}, "compression": "raw"})])
def test_what_a_decoder_holds_several_times_has_half_the_limit(tmp_path, suffix, options):
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (100, 100)).save(path, **options)
    assert load_image(path, 0.02).size == (100, 100) and "0.0075 million" in reason(path, max_megapixels=0.015)
    Image.new("RGB", (100, 100)).save(tmp_path / "b.tif", tiffinfo={278: 10}, compression="tiff_deflate")
    assert load_image(tmp_path / "b.tif", 0.015).size == (100, 100)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_above_a_size_pictures_come_at_half_of_it_upright(tmp_path, monkeypatch, suffix):
    path, exif = tmp_path / f"a.{suffix}", Image.Exif()
    exif[0x0112] = 6
    Image.linear_gradient("L").resize((301, 201)).convert("RGB").save(path, exif=exif)
    whole = load_image(path)
    monkeypatch.setattr(images, "LARGE", 300 * 200)
    half = load_image(path)
    assert whole.size == (201, 301) and half.size == (101, 151)
    assert np.abs(np.asarray(whole.resize(half.size, Image.Resampling.BOX)).astype(int) - np.asarray(half)).max() <= 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "F", "I", "I;16"])
def test_pixels_are_the_same_in_however_many_strips(mode, monkeypatch):
    whole = load_image(noise(mode))
    monkeypatch.setattr(pixels, "STRIP", 100)
    assert load_image(noise(mode)).tobytes() == whole.tobytes()


def test_a_picture_takes_at_most_eight_bytes_a_pixel(tmp_path):
    Image.new("RGBA", (6000, 6000)).save(tmp_path / "a.png", compress_level=1)
    code = f"""
import resource
from sources.images import load_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
load_image({str(tmp_path / "a.png")!r})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    kilobytes = int(run_python("its memory", "-c", code, module_path=ROOT).stdout)
    assert kilobytes * 1024 < 8 * 6000**2 + 2**27


def test_too_little_memory_is_that_pictures_error(tmp_path, monkeypatch):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", fail)
    assert reason(tmp_path / "a.png") == "it takes more memory than there is"


def test_pictures_are_checked_side_by_side_within_a_budget_of_pixels(tmp_path, monkeypatch):
    names = [f"{i}.png" for i in range(8)]
    for name in names:
        Image.new("L", (10, 10)).save(tmp_path / name)
    at_once, most = [], []

    def load(path, _):
        at_once.append(path)
        most.append(len(at_once))
        at_once.remove(path)

    monkeypatch.setattr("sources.prepare.LARGE", 50)
    monkeypatch.setattr("sources.prepare.load_image", load)
    good, bad = check_images(tmp_path, names, 1.0)
    assert [*good] == names and not bad and max(most) == 1


def test_a_limit_is_that_of_the_settings_when_data_is_prepared(tmp_path):
    Image.new("L", (20, 20)).save(tmp_path / "a.png")
    assert [*check_images(tmp_path, ["a.png"], 1.0)[0]] == ["a.png"]
    assert "MAX_IMAGE_MEGAPIXELS" in check_images(tmp_path, ["a.png"], 1e-5)[1]["a.png"]


def test_no_folder_of_unreadable_pictures_is_called_empty(tmp_path):
    with pytest.raises(UserError, match="holds no pictures"):
        find_pictures([str(tmp_path)])
