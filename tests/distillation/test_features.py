"""Feature losses: zero where features agree, blind to scale, for any widths, grids and families."""

import pytest
import torch
from tiny import save_tiny_vit
from torch import nn
from transformers import AutoModel

from distillation.features import FeatureLoss, as_grid
from networks.hooks import ActivationHooks

PROJECTS_NOTHING = FeatureLoss(6, 6)
with torch.no_grad():
    PROJECTS_NOTHING.projector.weight.copy_(torch.eye(6))
    PROJECTS_NOTHING.projector.bias.zero_()


def PLAIN(student, teacher):
    return PROJECTS_NOTHING(student, teacher).mean()


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_equal_features_cost_nothing_and_others_something():
    loss, features = PLAIN, torch.randn(2, 6, 4, 4)
    assert loss(features, features).item() == pytest.approx(0, abs=1e-6)
    assert loss(features.flatten(2).transpose(1, 2), features).item() == pytest.approx(0, abs=1e-6)
    assert 0.05 < loss(features, torch.randn(2, 6, 4, 4)) <= 2


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e4])
def test_scale_does_not_matter(scale):
    loss, student, teacher = PLAIN, torch.randn(2, 6, 4, 4), torch.randn(2, 6, 3, 3)
    expected = loss(student, teacher)
    torch.testing.assert_close(loss(scale * student, teacher), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss(student, scale * teacher), expected, rtol=1e-4, atol=1e-5)


def test_cosine_is_one_less_the_correlation_of_channels():
    student, teacher = torch.randn(1, 1, 6), torch.randn(1, 1, 6)
    expected = 1 - torch.corrcoef(torch.cat([student[0], teacher[0]]))[0, 1]
    torch.testing.assert_close(PLAIN(student, teacher), expected)


@pytest.mark.parametrize(
    "student, teacher",
    [((2, 6, 7, 7), (2, 4, 3, 3)), ((2, 6, 2, 2), (2, 17, 4)), ((2, 10, 6), (2, 4, 5, 3)), ((2, 6, 8, 5), (2, 201, 4))],
)
def test_grids_and_widths_may_differ(student, teacher):
    student, teacher = torch.randn(student, requires_grad=True), torch.randn(teacher)
    loss = FeatureLoss(6, 4)(student, teacher)
    loss.sum().backward()
    assert loss.shape == (2,) and (loss > 0).all() and student.grad.isfinite().all()


def test_resizing_keeps_places():
    """What is in the top right corner is in the top right corner of any grid, tokens being read row by row."""
    here, elsewhere = torch.randn(2, 6)
    coarse, fine = (elsewhere[None, :, None, None].repeat(1, 1, side, side) for side in (2, 8))
    coarse[0, :, 0, 1] = here
    fine[0, :, :4, 4:] = here[:, None, None]
    tokens = fine.flatten(2).transpose(1, 2)
    assert PLAIN(coarse, tokens) < 0.2 * PLAIN(coarse.transpose(2, 3), tokens)


def test_a_convolutional_student_learns_from_a_vit(tmp_path):
    vit = AutoModel.from_pretrained(save_tiny_vit(tmp_path)).eval()
    student = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, 10, 2, 2))  # 4 x 4
    images, loss = torch.randn(2, 3, 32, 32), FeatureLoss(10, 24)
    with ActivationHooks(student, ["2"]) as ours, ActivationHooks(vit, ["layernorm"]) as theirs:
        student(images), vit(images)
        assert theirs["layernorm"].shape == (2, 5, 24) and theirs["layernorm"].requires_grad
        loss(ours["2"], theirs["layernorm"]).sum().backward()
    for parameter in (*student.parameters(), *loss.parameters()):
        assert parameter.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in vit.parameters())


def test_the_teacher_gets_no_gradient():
    student, teacher = (torch.randn(2, 6, 4, 4, requires_grad=True) for _ in range(2))
    PLAIN(student, teacher).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None


def test_training_on_it_lowers_it():
    x, teacher = torch.randn(4, 16, 8), nn.Linear(8, 12)
    student, loss = nn.Linear(8, 5), FeatureLoss(5, 12)
    optimizer = torch.optim.Adam([*student.parameters(), *loss.parameters()], lr=0.02)
    values = []
    for _ in range(100):
        values.append(loss(student(x), teacher(x)).mean())
        optimizer.zero_grad()
        values[-1].backward()
        optimizer.step()
    assert values[-1] < values[0] / 2


def test_float32_whatever_comes_in():
    student, teacher = torch.randn(2, 6, 4, 4), torch.randn(2, 10, 3)
    loss = FeatureLoss(6, 3)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = loss(student, teacher)
    expected = loss(student, teacher)
    assert under_autocast.dtype == torch.float32 and torch.equal(under_autocast, expected)
    in_halves = loss(student.bfloat16(), teacher.half())
    assert in_halves.dtype == torch.float32 and in_halves.tolist() == pytest.approx(expected.tolist(), abs=0.02)


def test_dead_positions_have_bounded_gradients():
    student, teacher = torch.zeros(1, 6, 2, 2, requires_grad=True), torch.randn(1, 6, 2, 2)
    PLAIN(student, teacher).backward()
    assert student.grad.abs().max() < 1e5


@pytest.mark.parametrize(
    "count, side, dropped",
    [(1, 1, 0), (2, 1, 1), (9, 3, 0), (5, 2, 1), (196, 14, 0), (197, 14, 1), (198, 14, 2), (201, 14, 5), (257, 16, 1)],
)
def test_leading_tokens_are_found(count, side, dropped):
    tokens = torch.randn(2, count, 3)
    grid = as_grid(tokens)
    assert grid.shape == (2, 3, side, side)
    assert torch.equal(grid.flatten(2).transpose(1, 2), tokens[:, dropped:])


@pytest.mark.parametrize("count", [0, 58])  # 58 would be 7 x 7 after nine
def test_tokens_without_a_grid_are_refused(count):
    with pytest.raises(ValueError, match="no square grid"):
        as_grid(torch.randn(2, count, 3))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"\(2, 6\)"):
        as_grid(torch.randn(2, 6))
    with pytest.raises(ValueError, match="2 images"):
        PLAIN(torch.randn(2, 6, 4, 4), torch.randn(1, 6, 4, 4))
    with pytest.raises(ValueError, match="4 and 6 channels"):
        PLAIN(torch.randn(2, 4, 4, 6), torch.randn(2, 6, 4, 4))
