"""The attention of a CPU in 16 bits: measured, remembered by processor."""

import pytest
import torch
from test_encoder import save
from tiny import tiny_settings

from basics.timing import processor
from networks import attention
from networks.attention import measure_attention
from networks.encoder import FUSED, PLAIN, example_pixels
from networks.encoders import load_encoder

BF16 = torch.bfloat16


@pytest.fixture
def vit(tmp_path):
    save("vit", tmp_path)
    encoder, image_processor = load_encoder(tiny_settings(ENCODER_MODEL_NAME=str(tmp_path)))
    return encoder, example_pixels(image_processor)


def times(monkeypatch, **seconds):
    monkeypatch.setattr(attention, "seconds_of", lambda encoder, *_: seconds[encoder.attention[processor()]])


@pytest.mark.parametrize("fused, chosen", [(0.5, FUSED), (0.99, PLAIN), (2.0, PLAIN)])
def test_the_fused_one_is_chosen_where_it_is_clearly_faster(vit, monkeypatch, fused, chosen):
    times(monkeypatch, eager=1.0, sdpa=fused)
    vit[0].attention = measure_attention(*vit, BF16)
    assert vit[0].attention == {processor(): chosen}
    with torch.autocast("cpu", BF16):
        vit[0](vit[1])
    assert vit[0].backbone.config._attn_implementation == chosen


def test_what_is_known_is_not_measured_again(vit, monkeypatch):
    times(monkeypatch)
    vit[0].attention = {processor(): FUSED, "another": PLAIN}
    assert measure_attention(*vit, BF16) == vit[0].attention
    vit[0].attention = {}
    assert measure_attention(*vit, torch.float32) == {}  # where the fused one is always right


def test_no_other_word_of_a_file_becomes_an_attention(vit):
    vit[0].attention = {processor(): "somebody/their-kernel"}
    with torch.autocast("cpu", BF16):
        vit[0](vit[1])
    assert vit[0].backbone.config._attn_implementation == PLAIN


def test_both_are_really_measured_without_random_numbers(vit):
    before = torch.get_rng_state()
    assert measure_attention(*vit, BF16).keys() == {processor()}
    assert torch.equal(torch.get_rng_state(), before)
