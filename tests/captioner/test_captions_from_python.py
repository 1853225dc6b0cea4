"""captioner.caption(): files and Pillow's pictures, one or many, as the captioner's own settings say."""

import pytest
import torch
from PIL import Image
from tiny import tiny_model, tiny_settings, tiny_tokenizer

from captioner import folder
from captioner.folder import Captioner, captioner_config
from networks.decoding_options import DecodingOptions
from sources.images import ImageError

MODES = ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "LA", "La", "RGBa", "I;16", "PA")


@pytest.fixture(scope="module")
def captioner():
    settings = tiny_settings(BEAM_SIZE=3, LENGTH_PENALTY=0.0, MAX_SEQ_LEN=8)
    model, image_processor = tiny_model(seed=5, MAX_SEQ_LEN=8)
    config = captioner_config(model, tiny_tokenizer(), settings.to_dict(), epoch=1)
    return Captioner(model, tiny_tokenizer(), image_processor, config)


@pytest.fixture
def file(tmp_path):
    Image.effect_noise((40, 30), 90).convert("RGB").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_picture_gives_its_captions_and_a_list_gives_a_list_of_those(captioner, file):
    [(text, caption)] = captioner.caption(str(file))
    assert isinstance(text, str) and caption.score < 0
    with Image.open(file) as opened:
        for picture in (file, opened, opened.copy()):
            assert captioner.caption(picture) == [(text, caption)]
        assert captioner.caption([str(file), file, opened]) == [[(text, caption)]] * 3
        assert opened.getpixel((0, 0))  # still open
    assert captioner.caption([]) == []


def test_without_options_it_captions_as_its_settings_say(captioner, file):
    own = DecodingOptions(beam_size=3, length_penalty=0.0)
    assert captioner.caption(file) == captioner.caption(file, own) != captioner.caption(file, DecodingOptions())
    assert len(captioner.caption(file, DecodingOptions(beam_size=3, num_captions=3))) == 3


def test_its_own_precision_is_that_of_its_captions(captioner, file):
    seen = []
    settings = {**captioner.config["settings"], "PRECISION": "bf16"}
    half = Captioner(captioner.model, captioner.tokenizer, captioner.image_processor, {"settings": settings})
    watch = captioner.model.projection.register_forward_hook(lambda *given: seen.append(given[-1].dtype))
    for each in (half, captioner):
        each.caption(file)
    watch.remove()
    assert seen == [torch.bfloat16, torch.float32]


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_every_mode_are_captioned(captioner, mode):
    assert captioner.caption(Image.new(mode, (20, 10)))


def test_long_lists_are_captioned_in_batches(captioner, file, monkeypatch):
    sizes, caption_images = [], captioner.caption_images

    def watched(images, options):
        images = list(images)
        sizes.append(len(images))
        return caption_images(images, options)

    monkeypatch.setattr(folder, "BATCH", 2)
    monkeypatch.setattr(captioner, "caption_images", watched)
    assert len(captioner.caption([file] * 5)) == 5 and sizes == [2, 2, 1]


@pytest.mark.parametrize("picture, reason", [("gone.jpg", "no such file"), (None, "a NoneType"), (b"png", "a bytes")])
def test_what_cannot_be_read_is_an_image_error(captioner, file, picture, reason):
    with pytest.raises(ImageError, match=reason):
        captioner.caption([file, picture])


def test_a_picture_whose_file_is_cut_short_is_an_image_error(captioner, file):
    file.write_bytes(file.read_bytes()[:300])
    with Image.open(file) as cut, pytest.raises(ImageError, match="photo.png: it is damaged"):
        captioner.caption(cut)
