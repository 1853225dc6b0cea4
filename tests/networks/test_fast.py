"""A model made fast computes what it did."""

import pytest
import torch
from test_encoder import FAMILIES, save
from tiny import tiny_settings
from torch import nn

from basics.devices import autocast
from networks import fast
from networks.encoder import example_pixels
from networks.encoders import load_encoder
from networks.fast import PackedLinear, make_fast
from networks.parameters import count_parameters


def encoder_of(name, tmp_path):
    save(name, tmp_path)
    encoder, image_processor = load_encoder(tiny_settings(ENCODER_MODEL_NAME=str(tmp_path)))
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):  # as one that has learned
            nn.init.uniform_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return encoder.eval(), torch.rand(2, *example_pixels(image_processor).shape[1:])


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_encoders_gives_the_same_image_tokens(name, precision, tmp_path):
    encoder, pixels = encoder_of(name, tmp_path)
    with torch.inference_mode(), autocast(torch.device("cpu"), precision):
        before = encoder(pixels).float()
        make_fast(encoder, precision, lambda: encoder(pixels[:1]))
        error = (encoder(pixels).float() - before).norm() / before.norm()
    assert error < (1e-5 if precision == torch.float32 else 0.1)
    assert {parameter.dtype for parameter in encoder.parameters()} == {precision}


def test_batch_norms_become_part_of_their_convolutions(tmp_path):
    encoder, pixels = encoder_of("timm cnn", tmp_path)
    make_fast(encoder, torch.float32, lambda: encoder(pixels))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())


class ReadsItsWeight(nn.Module):
    """As some models do, which so cannot have another module there."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return x @ self.linear.weight


def test_a_model_that_reaches_into_its_modules_stays_as_it_was():
    model, x = ReadsItsWeight(), torch.randn(3, 8)
    expected, linear = model(x), model.linear
    make_fast(model, torch.float32, lambda: model(x))
    assert model.linear is linear and torch.equal(model(x), expected)


class TwoReaders(nn.Module):
    """A convolution whose output a batch norm reads, and something else too."""

    def __init__(self, other):
        super().__init__()
        self.conv, self.norm, self.other = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), other
        nn.init.uniform_(self.norm.running_mean, 0, 0.1)

    def forward(self, x):
        y = self.conv(x)
        return y + 0.1 * self.norm(y) if self.other is None else self.norm(y) + 0.1 * self.other(y)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("other", [None, nn.BatchNorm2d(8)])
def test_a_convolution_that_others_read_too_is_not_folded(other, precision):
    model, x = TwoReaders(other).eval(), torch.rand(1, 3, 16, 16)
    make_fast(model, precision, lambda: model(x))
    assert isinstance(model.norm, nn.BatchNorm2d)


def test_a_batch_norm_without_statistics_is_left_alone():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False))
    make_fast(model, torch.float32, lambda: model(torch.ones(1, 3, 8, 8)))
    assert isinstance(model[1], nn.BatchNorm2d)


def test_products_are_packed_and_tied_matrices_are_not():
    model = nn.Sequential(nn.Embedding(9, 16), nn.Linear(16, 16), nn.Linear(16, 9, bias=False))
    model[2].weight = model[0].weight
    make_fast(model, torch.float32, lambda: model(torch.arange(3)))
    assert type(model[1]) is PackedLinear and type(model[2]) is nn.Linear
    assert count_parameters(model) == 9 * 16 + 16 * 17


def test_a_model_too_large_for_a_second_copy_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(fast, "machine_memory", lambda: 4000)
    model = nn.Linear(16, 16)
    make_fast(nn.Sequential(model), torch.bfloat16, lambda: model(torch.ones(1, 16)))
    assert model.weight.dtype == torch.float32
