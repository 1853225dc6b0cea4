"""Parameter groups, schedules, precision, devices."""

import copy

import pytest
import torch
from tiny import tiny_model, tiny_settings

from basics.devices import make_scaler, pick_device, pick_precision
from basics.errors import UserError
from networks.parameters import merged, parameter_groups
from training.optimizer import learning_rate_factor, make_optimizer, make_scheduler, restore_optimizer


def test_every_trainable_parameter_is_in_exactly_one_group():
    model, _ = tiny_model()
    model.encoder.backbone.embeddings.requires_grad_(False)
    optimizer = make_optimizer(model.parameter_groups(), tiny_settings())
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_only_matrices_decay_and_the_encoder_has_its_own_learning_rate():
    model, _ = tiny_model()
    names = {id(p): name for name, p in model.named_parameters()}
    for group in make_optimizer(
        model.parameter_groups(), tiny_settings(ENCODER_LEARNING_RATE=1e-5, LEARNING_RATE=1e-3)
    ).param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert group["lr"] == (1e-5 if name.startswith("encoder.") else 1e-3)
            assert bool(group["weight_decay"]) == (parameter.ndim >= 2 and "embedding" not in name)


@pytest.mark.parametrize("schedule, halfway, end", [("linear", 0.5, 0.0), ("cosine", 0.5, 0.0), ("constant", 1.0, 1.0)])
def test_the_learning_rate_warms_up_and_follows_its_schedule(schedule, halfway, end):
    rates = [learning_rate_factor(step, 10, 110, schedule) for step in (0, 5, 10, 60, 110)]
    assert rates == pytest.approx([0.0, 0.5, 1.0, halfway, end], abs=1e-6)


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert learning_rate_factor(0, 0, 100, "linear") == 1.0


def make_pair(learning_rate):
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    groups = parameter_groups("decoder", torch.nn.ParameterDict({"w": parameter}))
    optimizer = make_optimizer(merged(groups), tiny_settings(LEARNING_RATE=learning_rate))
    scheduler = make_scheduler(optimizer, lambda step, steps: learning_rate_factor(step, 4, steps, "linear"), 20)
    return parameter, optimizer, scheduler


def steps(parameter, optimizer, scheduler, count):
    for _ in range(count):
        parameter.square().sum().backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("new_rate", [0.1, 0.05])
def test_after_a_resume_the_learning_rate_is_that_of_the_settings(new_rate):
    parameter, optimizer, scheduler = make_pair(0.1)
    steps(parameter, optimizer, scheduler, 7)
    saved = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict(), scheduler.get_last_lr()[0]))
    again, optimizer_again, scheduler_again = make_pair(new_rate)
    again.data = parameter.data.clone()
    restore_optimizer(optimizer_again, scheduler_again, *saved[:2])
    assert optimizer_again.param_groups[0]["lr"] == pytest.approx(saved[2] * new_rate / 0.1)
    steps(parameter, optimizer, scheduler, 5)
    steps(again, optimizer_again, scheduler_again, 5)
    assert torch.equal(parameter, again) == (new_rate == 0.1)


def test_the_scaler_works_for_fp16_alone():
    cpu = torch.device("cpu")
    enabled = [
        make_scaler(cpu, pick_precision(tiny_settings(PRECISION=p), cpu)).is_enabled()
        for p in ("fp32", "bf16", "fp16", "auto")
    ]
    assert enabled == [False, False, True, False]


@pytest.mark.parametrize("name", ["cuda:99", "toaster", "cuda:x"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(UserError, match="this machine has"):
        pick_device(name)
