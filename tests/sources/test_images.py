"""Every kind of picture becomes upright RGB; what cannot be read is one line that names it."""

import numpy as np
import pytest
from PIL import Image

from sources.images import ImageError, load_image

RED, WHITE = (255, 0, 0), (255, 255, 255)


def near(pixel, expected, slack=12):
    return all(abs(a - b) <= slack for a, b in zip(pixel, expected))


def save(image: Image.Image, path, **options):
    image.save(path, **options)
    return load_image(path)


def test_exif_rotation_is_applied(tmp_path):
    picture = Image.new("RGB", (40, 20), WHITE)
    picture.paste(RED, (0, 0, 10, 20))  # red on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn clockwise
    loaded = save(picture, tmp_path / "a.jpg", exif=exif, quality=95)
    assert (
        loaded.size == (20, 40) and near(loaded.getpixel((10, 3)), RED, 30) and near(loaded.getpixel((10, 35)), WHITE)
    )


@pytest.mark.parametrize(
    "mode, value, expected", [("L", 100, (100,) * 3), ("1", 1, WHITE), ("CMYK", (0, 255, 255, 0), RED)]
)
def test_greyscale_bilevel_and_cmyk_become_rgb(tmp_path, mode, value, expected):
    loaded = save(Image.new(mode, (8, 8), value), tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"))
    assert loaded.mode == "RGB" and near(loaded.getpixel((4, 4)), expected)


@pytest.mark.parametrize("mode, value", [("RGBA", (255, 0, 0, 0)), ("LA", (0, 0))])
def test_what_is_transparent_becomes_white(tmp_path, mode, value):
    assert save(Image.new(mode, (8, 8), value), tmp_path / "a.png").getpixel((4, 4)) == WHITE


def test_half_transparent_is_mixed_with_white(tmp_path):
    assert near(save(Image.new("RGBA", (8, 8), (255, 0, 0, 128)), tmp_path / "a.png").getpixel((4, 4)), (255, 127, 127))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    loaded = np.asarray(save(Image.fromarray(ramp), tmp_path / "a.png"))[:, :, 0]
    assert np.abs(loaded.astype(int) - ramp / 257).max() <= 1


def test_palettes_load_with_their_transparency(tmp_path):
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 255, 0, 0] + [0] * 762)
    assert near(save(picture, tmp_path / "a.png").getpixel((1, 1)), RED)
    assert save(picture, tmp_path / "b.png", transparency=1).getpixel((1, 1)) == WHITE


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_the_first_frame_of_an_animation_is_taken(tmp_path, suffix):
    frames = [Image.new("RGB", (16, 16), color) for color in (RED, (0, 0, 255))]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], duration=100)
    assert near(load_image(tmp_path / f"a.{suffix}").getpixel((8, 8)), RED)


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut", "folder"])
def test_a_picture_that_cannot_be_read_is_one_line_that_names_it(tmp_path, damage):
    path = tmp_path / "broken.jpg"
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        Image.effect_noise((64, 64), 50).save(path)
        path.write_bytes({"empty": b"", "text": b"hello", "cut": path.read_bytes()[:900]}[damage])
    with pytest.raises(ImageError) as caught:
        load_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    Image.new("1", (300, 300)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageError, match="pixels"):
        load_image(tmp_path / "bomb.png")
