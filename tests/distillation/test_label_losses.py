"""Losses between a classifier's logits and its teacher's: the formulas of their papers, and what they are blind to."""

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_settings
from torch import nn

from distillation.labels import LabelDistillLoss, LabelMomentumLoss, decoupled_kl, hard_labels, logit_loss, soft_kl
from losses.labels import LabelLoss
from training.ema import WeightAverage
from training.progress import Progress

T = 4.0


@pytest.fixture
def given():
    torch.manual_seed(0)
    return 3 * torch.randn(6, 5), 3 * torch.randn(6, 5), torch.tensor([0, 1, 2, 3, 4, 0])


def test_the_soft_loss_is_the_kl_divergence_times_the_temperature_squared(given):
    student, teacher, targets = given
    p, q = ((logits / T).softmax(-1) for logits in (teacher, student))
    expected = T**2 * (p * (p / q).log()).sum(-1)
    assert torch.allclose(soft_kl(student, teacher, targets, T), expected, atol=1e-5)


def test_its_gradient_stays_as_large_whatever_the_temperature(given):
    """At high temperatures it is (student - teacher) / C of centred logits (Hinton et al. 2015, equation 4)."""
    student, teacher, targets = given
    student.requires_grad_()
    soft_kl(student, teacher, targets, 1e3).sum().backward()
    centred = student - student.mean(-1, keepdim=True) - (teacher - teacher.mean(-1, keepdim=True))
    assert torch.allclose(student.grad, centred.detach() / 5, atol=1e-2)


def test_the_decoupled_loss_with_the_teachers_doubt_as_beta_is_the_soft_loss(given):
    """Equation 7 of Zhao et al. 2022: KL = KL of the class against the rest + (1 - its probability) KL of the rest."""
    student, teacher, targets = given
    doubt = 1 - (teacher / T).softmax(-1).gather(1, targets[:, None])[:, 0]
    whole, target_part = soft_kl(student, teacher, targets, T), decoupled_kl(student, teacher, targets, T, 0.0)
    other_part = decoupled_kl(student, teacher, targets, T, 1.0) - target_part
    assert torch.allclose(target_part + doubt * other_part, whole, atol=1e-4)
    assert torch.allclose(
        decoupled_kl(student, teacher, targets, T, 8.0), target_part + 8 * other_part, atol=1e-4, rtol=1e-4
    )


def test_hard_labels_are_the_teachers_answers(given):
    student, teacher, targets = given
    expected = F.cross_entropy(student, teacher.argmax(-1), reduction="none")
    assert torch.equal(hard_labels(student, teacher, targets), expected)


@pytest.mark.parametrize("loss", ["kl", "decoupled"])
def test_standardized_logits_lose_their_size_and_place(given, loss):
    student, teacher, targets = given
    found = logit_loss(tiny_settings(DISTILL_LOSS=loss, DISTILL_STANDARDIZE=True, DISTILL_TEMPERATURE=2.0))
    assert torch.allclose(found(7 * student - 3, teacher / 2 + 1, targets), found(student, teacher, targets), atol=1e-5)
    assert torch.allclose(found(5 * teacher, teacher, targets), torch.zeros(6), atol=1e-5)


@pytest.mark.parametrize("loss", ["kl", "decoupled", "hard"])
def test_alpha_blends_the_teacher_into_cross_entropy(given, loss):
    student, teacher, targets = given
    batch = {"images": student, "targets": targets, "target_mask": torch.tensor([True] * 4 + [False] * 2)}
    settings = tiny_settings(DISTILL_LOSS=loss, DISTILL_ALPHA=0.25, DISTILL_TEMPERATURE=2.0)
    found, count = LabelDistillLoss(lambda _: teacher, settings)(nn.Identity(), batch)
    plain, _ = LabelLoss()(nn.Identity(), batch)
    taught = logit_loss(settings)(student, teacher, targets)[:4].sum()
    assert count == 4 and torch.allclose(found, 0.75 * plain + 0.25 * taught, rtol=1e-5)


def test_the_average_teaches_from_before_the_step_and_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    average = WeightAverage(model, 0.9)
    with torch.no_grad():
        model.weight.add_(1.0)
    batch = {
        "images": torch.randn(5, 3),
        "targets": torch.arange(5) % 4,
        "target_mask": torch.ones(5, dtype=torch.bool),
    }
    progress, weight = Progress(global_step=5), model.weight.clone()
    settings = tiny_settings(DISTILL_ALPHA=1.0, DISTILL_TEMPERATURE=1.0)
    criterion = LabelMomentumLoss(model, average, settings, progress, steps_per_epoch=10)
    loss, _ = criterion(model, batch)
    loss.backward()
    with average.applied(model):
        teacher = model(batch["images"]).detach()
    logits = model(batch["images"])
    half = 0.5 * LabelLoss().losses(logits, batch) + 0.5 * soft_kl(logits, teacher, batch["targets"], 1.0)
    assert torch.equal(model.weight, weight) and torch.allclose(loss, half.sum(), rtol=1e-5)
    (expected,) = torch.autograd.grad(half.sum(), model.weight)
    assert torch.allclose(model.weight.grad, expected, atol=1e-6)
