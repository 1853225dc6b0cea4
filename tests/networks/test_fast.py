"""A model made fast computes what it did."""

import pytest
import torch
from test_encoder import FAMILIES, save
from tiny import tiny_model, tiny_settings
from torch import nn

from basics.devices import autocast
from networks.encoder import example_pixels
from networks.encoders import load_encoder
from networks.fast import PackedLinear, make_fast


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


def test_parameters_are_counted_as_before():
    model, _ = tiny_model()
    numbers = sum(parameter.numel() for parameter in model.parameters())
    make_fast(model, torch.float32, lambda: model.encode(torch.ones(1, 3, 32, 32)))
    assert any(isinstance(module, PackedLinear) for module in model.modules())
    assert sum(parameter.numel() for parameter in model.parameters()) == numbers
