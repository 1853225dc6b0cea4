"""Utilisation: FLOPs as one counts them by hand, and a measurement that leaves a run as it was."""

import torch
from tiny import tiny_model
from torch import nn

from training import utilisation
from training.utilisation import matmul_peak, step_flops


def test_the_flops_of_a_step_are_those_of_its_matrix_products():
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    inputs = torch.randn(3, 6)
    forward, weights, between = 2 * 3 * (6 * 5 + 5 * 4), 2 * 3 * (6 * 5 + 5 * 4), 2 * 3 * 5 * 4
    assert step_flops(lambda: (model(inputs).sum(), 1), model) == forward + weights + between


def test_counting_leaves_random_numbers_and_gradients_alone():
    model, _ = tiny_model()
    model.train()
    images, tokens = torch.randn(2, 3, 32, 32), torch.ones(2, 4, dtype=torch.long)
    state = torch.get_rng_state()
    assert step_flops(lambda: (model(images, tokens).sum(), 1), model) > 0
    assert torch.equal(torch.get_rng_state(), state) and all(p.grad is None for p in model.parameters())


def test_the_peak_is_measured_at_sizes_that_a_slow_machine_has_time_for(monkeypatch):
    sides, speed = [], 75e9  # FLOP/s
    monkeypatch.setattr(
        utilisation, "product_seconds", lambda matrix, end: sides.append(len(matrix)) or 2 * len(matrix) ** 3 / speed
    )
    assert matmul_peak(torch.device("cpu"), torch.float32) == speed
    assert 512 < max(sides) and 2 * 2 * max(sides) ** 3 / speed < utilisation.TIME
