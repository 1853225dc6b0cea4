"""The moving average of the weights: what it is, where it is used, and that it comes back from a checkpoint."""

import pytest
import torch
from torch import nn

from training.ema import WeightAverage


def steps(model, average, values):
    for value in values:
        nn.init.constant_(model.weight, value)
        average.update(model)


def test_the_average_follows_the_weights_and_decays_as_said():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = WeightAverage(model, 0.5)
    steps(model, average, [1.0, 1.0])
    first = 1 - min(0.5, 2 / 11)
    assert average.values["weight"].item() == pytest.approx(1 - (1 - first) * min(0.5, 3 / 12))


def test_the_average_is_applied_inside_and_gone_outside():
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, 0.9)
    steps(model, average, [1.0, 2.0])
    expected = average.values["weight"].item()
    with pytest.raises(RuntimeError), average.applied(model):
        assert model.weight.item() == expected != 2
        raise RuntimeError
    assert model.weight.item() == 2 and average.values["weight"].item() == expected


def test_without_a_decay_nothing_is_averaged():
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, None)
    steps(model, average, [1.0, 2.0])
    with average.applied(model):
        assert model.weight.item() == 2
    assert average.values == {}


def test_frozen_weights_are_not_averaged():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    assert list(WeightAverage(model, 0.9).values) == ["weight"]


def test_the_average_comes_back_and_one_of_another_model_is_refused():
    model = nn.Linear(1, 1, bias=False)
    average, again = WeightAverage(model, 0.9), WeightAverage(nn.Linear(1, 1, bias=False), 0.9)
    steps(model, average, [1.0, 2.0])
    again.load_state_dict(average.state_dict())
    assert again.steps == 2 and torch.equal(again.values["weight"], average.values["weight"])
    with pytest.raises(ValueError, match="EMA_DECAY"):
        WeightAverage(model, None).load_state_dict(average.state_dict())
