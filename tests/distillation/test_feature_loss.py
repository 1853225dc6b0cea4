"""Feature losses: zero where features agree, blind to scale, for any widths, grids and families."""

import pytest
import torch
from tiny import save_tiny_vit
from torch import nn
from transformers import AutoModel

from distillation.feature_loss import FeatureLoss, as_grid, attention_transfer
from networks.hooks import Tap

PLAIN = FeatureLoss(6, 6, project=False)
LOSSES = {"cosine": PLAIN, "attention": FeatureLoss(6, 6, kind="attention"), "function": attention_transfer}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(params=LOSSES)
def loss(request):
    return LOSSES[request.param]


def test_equal_features_cost_nothing_and_others_something(loss):
    features = torch.randn(2, 6, 4, 4)
    assert loss(features, features).item() == pytest.approx(0, abs=1e-6)
    assert loss(features.flatten(2).transpose(1, 2), features).item() == pytest.approx(0, abs=1e-6)
    assert 0.05 < loss(features, torch.randn(2, 6, 4, 4)) <= 2


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e4])
def test_scale_does_not_matter(loss, scale):
    student, teacher = torch.randn(2, 6, 4, 4), torch.randn(2, 6, 3, 3)
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
@pytest.mark.parametrize("kind", ["cosine", "attention"])
def test_grids_and_widths_may_differ(kind, student, teacher):
    student, teacher = torch.randn(student, requires_grad=True), torch.randn(teacher)
    loss = FeatureLoss(6, 4, kind)(student, teacher)
    loss.backward()
    assert loss.shape == () and loss > 0 and student.grad.isfinite().all()


def test_resizing_keeps_places():
    """Energy in the top left corner is in the top left corner of any grid, tokens being read row by row."""
    coarse, fine = torch.full((1, 3, 2, 2), 1e-3), torch.full((1, 5, 8, 8), 1e-3)
    coarse[..., 0, 1] = fine[..., :4, 4:] = 1
    tokens = fine.flatten(2).transpose(1, 2)
    assert attention_transfer(coarse, tokens) < 0.2 < attention_transfer(coarse.transpose(2, 3), tokens)


def test_a_convolutional_student_learns_from_a_vit(tmp_path):
    vit = AutoModel.from_pretrained(save_tiny_vit(tmp_path)).eval()
    student = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, 10, 2, 2))  # 4 x 4
    images, loss = torch.randn(2, 3, 32, 32), FeatureLoss(10, 24)
    with Tap(student, "2") as ours, Tap(vit, "layernorm") as theirs:
        student(images), vit(images)
        assert theirs["layernorm"].shape == (2, 5, 24) and theirs["layernorm"].requires_grad
        loss(ours["2"], theirs["layernorm"]).backward()
    for parameter in (*student.parameters(), *loss.parameters()):
        assert parameter.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in vit.parameters())


def test_attention_needs_no_parameters_and_gives_the_teacher_no_gradient():
    student, teacher = (torch.randn(2, 6, 4, 4, requires_grad=True) for _ in range(2))
    loss = LOSSES["attention"]
    loss(student, teacher).backward()
    assert not list(loss.parameters()) and student.grad.abs().sum() > 0 and teacher.grad is None


def test_training_on_it_lowers_it():
    x, teacher = torch.randn(4, 16, 8), nn.Linear(8, 12)
    student, loss = nn.Linear(8, 5), FeatureLoss(5, 12)
    optimizer = torch.optim.Adam([*student.parameters(), *loss.parameters()], lr=0.02)
    values = []
    for _ in range(100):
        values.append(loss(student(x), teacher(x)))
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
    assert in_halves.dtype == torch.float32 and in_halves.item() == pytest.approx(expected.item(), abs=0.02)


def test_dead_positions_have_bounded_gradients():
    student, teacher = torch.zeros(1, 6, 2, 2, requires_grad=True), torch.randn(1, 6, 2, 2)
    for loss in LOSSES.values():
        loss(student, teacher).backward()
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


def test_leading_tokens_may_be_given():
    assert as_grid(torch.randn(2, 9, 3), leading=5).shape == (2, 3, 2, 2)
    for leading in (1, 9, 20):
        with pytest.raises(ValueError, match=f"9 tokens less {leading}"):
            as_grid(torch.randn(2, 9, 3), leading)


@pytest.mark.parametrize("count", [0, 58])  # 58 would be 7 x 7 after nine
def test_tokens_without_a_grid_are_refused(count):
    with pytest.raises(ValueError, match="no square grid"):
        as_grid(torch.randn(2, count, 3))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="cosine, attention"):
        FeatureLoss(6, 6, "l2")
    with pytest.raises(ValueError, match="project=True"):
        FeatureLoss(6, 5, project=False)
    with pytest.raises(ValueError, match=r"\(2, 6\)"):
        as_grid(torch.randn(2, 6))
    with pytest.raises(ValueError, match="2 images"):
        PLAIN(torch.randn(2, 6, 4, 4), torch.randn(1, 6, 4, 4))
    with pytest.raises(ValueError, match="4 and 6 channels"):
        PLAIN(torch.randn(2, 4, 4, 6), torch.randn(2, 6, 4, 4))
