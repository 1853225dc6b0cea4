"""Distillation losses: zero for equal distributions, bounded by the whole divergence, right in their gradients."""

import copy

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_model, tiny_settings

from distillation.alignment import Projection
from distillation.criteria import DistillLoss, MomentumLoss, blend, dense_kl, sparse_kl
from losses.cross_entropy import CaptionLoss, cross_entropy
from losses.row_loss import RowLoss
from training.ema import WeightAverage
from training.progress import Progress

V = 30


def logits(rows=6, seed=0, scale=3.0):
    return scale * torch.randn(rows, V, generator=torch.Generator().manual_seed(seed))


def sparse(student, teacher, k, temperature=1.0):
    """Its value (n,), by its own gradient, from the teacher's k likeliest tokens."""
    probs, ids = (teacher / temperature).softmax(-1).topk(k)
    return sparse_kl(student, ids, probs, temperature)


def dense(student, teacher, temperature=1.0):
    """The mean over rows of the divergence of whole distributions."""
    return RowLoss.apply(student, dense_kl(teacher, temperature)) / len(student)


def full(student, teacher):
    return F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="none", log_target=True).sum(-1)


def plain_sparse(student, ids, probs, temperature):
    """The same by autograd, written out, in double precision."""
    q = (student / temperature).softmax(-1)
    kept, rest = q.gather(1, ids), 1 - probs.sum(1)
    other = q.scatter(1, ids, 0.0).sum(1)
    return temperature**2 * (torch.xlogy(probs, probs / kept).sum(1) + torch.xlogy(rest, rest / other))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equal_logits_have_no_loss_and_no_gradient(temperature):
    student = logits().requires_grad_()
    loss = dense(student, student.detach(), temperature)
    loss.backward()
    assert abs(loss.item()) < 1e-6 and student.grad.abs().max() < 1e-6
    assert dense(logits(), logits(seed=1), temperature) > 0.1


def test_the_dense_loss_is_pytorchs():
    student, teacher = logits().requires_grad_(), logits(seed=1)
    loss = dense(student, teacher, 2.0)
    expected = 4 * F.kl_div(
        (student / 2).log_softmax(-1), (teacher / 2).log_softmax(-1), reduction="batchmean", log_target=True
    )
    torch.testing.assert_close(loss, expected)
    (ours,), (theirs,) = (torch.autograd.grad(value, student) for value in (loss, expected))
    torch.testing.assert_close(ours, theirs)


def test_temperature_keeps_the_size_of_the_gradient():
    sizes = []
    for temperature in (1.0, 4.0):
        student = logits(200, scale=0.5).requires_grad_()
        dense(student, logits(200, seed=1, scale=0.5), temperature).backward()
        sizes.append(student.grad.norm())
    assert 0.5 < sizes[0] / sizes[1] < 2


@pytest.mark.parametrize("k", [1, 8, V - 1])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_sparse_loss_is_zero_where_both_agree_and_its_gradient_that_of_autograd(k, temperature):
    student, teacher = logits(), logits(seed=1)
    loss, gradient = sparse(teacher, teacher, k, temperature)
    assert loss.abs().max() < 1e-5 and gradient.abs().max() < 1e-6
    probs, ids = (teacher / temperature).softmax(-1).topk(k)
    loss, gradient = sparse_kl(student, ids, probs, temperature)
    student = student.double().requires_grad_()
    expected = plain_sparse(student, ids, (teacher.double() / temperature).softmax(-1).gather(1, ids), temperature)
    theirs = torch.autograd.grad(expected.sum(), student)[0]
    torch.testing.assert_close(loss.double(), expected.detach(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(gradient.double(), theirs, rtol=1e-3, atol=1e-4)


def test_the_sparse_loss_grows_with_k_up_to_the_whole_divergence():
    student, teacher = logits(), logits(seed=1)
    values = [sparse(student, teacher, k)[0] for k in range(1, V)]
    for fewer, more in zip(values, values[1:]):
        assert (more >= fewer - 1e-5).all()
    torch.testing.assert_close(values[-1], full(student, teacher), rtol=1e-4, atol=1e-5)


def test_a_rest_without_a_token_is_refused():
    with pytest.raises(ValueError, match="expected fewer"):
        sparse(logits(), logits(seed=1), V)


def test_a_student_that_is_sure_and_wrong_stays_finite():
    student = torch.zeros(1, V)
    student[0, 3] = 60.0
    loss, gradient = sparse(student, logits(1, seed=1), 8)
    assert loss.isfinite().all() and gradient.isfinite().all() and loss > 1


def test_rows_without_a_teacher_get_cross_entropy_alone():
    targets = torch.arange(6)
    probs, ids = logits(seed=1).softmax(-1).topk(4)
    rows = blend(cross_entropy(targets, 0.1), lambda part, at: sparse_kl(part, ids[at], probs[at], 1.0), torch.zeros(6))
    student = logits().requires_grad_()
    loss = RowLoss.apply(student, rows)
    expected = F.cross_entropy(student, targets, label_smoothing=0.1, reduction="sum")
    torch.testing.assert_close(loss, expected)
    (ours,), (theirs,) = (torch.autograd.grad(value, student) for value in (loss, expected))
    torch.testing.assert_close(ours, theirs)


def fit(wanted, steps=400):
    """A student that sees only the sparse loss of one caption's predictions (n, V)."""
    student = torch.zeros(len(wanted), V, requires_grad=True)
    optimizer = torch.optim.Adam([student], 0.1)
    mass, ids = wanted.topk(V - 2)
    for _ in range(steps):
        optimizer.zero_grad()
        RowLoss.apply(student, lambda part, at: sparse_kl(part, ids[at], mass[at], 1.0)).backward()
        optimizer.step()
    return student.detach().softmax(-1)


def test_a_student_learns_the_projected_predictions_word_by_word():
    random = torch.Generator().manual_seed(2)
    teacher = (3 * torch.randn(5, 40, generator=random)).softmax(-1)
    pairs = [(word, word % V) for word in range(40)]
    wanted = Projection.count(pairs, V)(teacher)
    learned = fit(wanted)
    divergence = (torch.xlogy(wanted, wanted / learned)).sum(1).mean()
    assert divergence < 1e-3
    # identity matters: with two words exchanged, the same student is wrong
    swapped = [(word, {0: 1, 1: 0}.get(word, word % V)) for word in range(40)]
    other = Projection.count(swapped, V)(teacher)
    assert torch.xlogy(other, other / learned).sum(1).mean() > 10 * divergence


def make_batch(num_images=2, tokens=6):
    random = torch.Generator().manual_seed(3)
    ids = torch.randint(4, 300, (2 * num_images, tokens), generator=random)
    return {
        "images": torch.randn(num_images, 3, 32, 32, generator=random),
        "decoder_input_tokens": ids[:, :-1],
        "target_tokens": ids[:, 1:],
        "target_mask": torch.ones(2 * num_images, tokens - 1, dtype=torch.bool),
    }


def trainable(model):
    return model.train().requires_grad_(True)


def test_the_student_learns_and_the_teacher_stays_as_it_was():
    student, teacher = trainable(tiny_model()[0]), tiny_model(seed=1)[0].requires_grad_(False)
    before = copy.deepcopy(teacher.state_dict())
    batch = make_batch()

    def targets(batch):
        with torch.no_grad():
            found = teacher(batch["images"], batch["decoder_input_tokens"], None, batch["target_mask"])
        probs, ids = found.softmax(-1).topk(8)
        return ids, probs, torch.ones(len(ids))

    loss, count = DistillLoss(targets, tiny_settings(DISTILL_ALPHA=1.0))(student, batch)
    (loss / count).backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    torch.optim.SGD(student.parameters(), 0.1).step()
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def momentum(model, **changes):
    settings = tiny_settings(DISTILL="momentum", EMA_DECAY=0.99, **changes)
    average = WeightAverage(model, settings.EMA_DECAY)
    progress = Progress(num_pairs=100)
    return MomentumLoss(model, average, settings, progress, steps_per_epoch=10), average, progress


def test_the_momentum_teacher_grows_over_the_first_epoch_and_stays():
    criterion, _, progress = momentum(tiny_model()[0], DISTILL_ALPHA=0.4)
    alphas = []
    for progress.global_step in (0, 5, 10, 1000):
        alphas.append(criterion.alpha)
    assert alphas == pytest.approx([0, 0.2, 0.4, 0.4])


def test_momentum_of_no_share_is_plain_cross_entropy():
    model = trainable(tiny_model(DECODER_DROPOUT=0.0)[0])
    criterion, _, _ = momentum(model)  # step 0: no share yet
    ours, plain = criterion(model, make_batch())[0], CaptionLoss()(model, make_batch())[0]
    torch.testing.assert_close(ours, plain)


def test_momentum_in_16_bits_leaves_the_students_own_weights_to_the_student():
    model = trainable(tiny_model(DECODER_DROPOUT=0.0)[0])
    criterion, _, _ = momentum(model)  # no share yet: plain cross-entropy
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))
    with torch.autocast("cpu", torch.bfloat16):
        plain = CaptionLoss()(model, make_batch())[0]
    with torch.autocast("cpu", torch.bfloat16):
        ours = criterion(model, make_batch())[0]
    torch.testing.assert_close(ours, plain)


def test_a_batch_that_the_teacher_says_nothing_of_is_cross_entropy_and_finite():
    model = trainable(tiny_model(DECODER_DROPOUT=0.0)[0])
    nothing = (torch.zeros(20, 8, dtype=torch.long), torch.zeros(20, 8), torch.zeros(20))
    loss, _ = DistillLoss(lambda _: nothing, tiny_settings())(model, make_batch())
    torch.testing.assert_close(loss, CaptionLoss()(model, make_batch())[0])
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_the_momentum_teacher_predicts_with_the_average_and_without_dropout():
    model = trainable(tiny_model(DECODER_DROPOUT=0.5)[0])
    expected = copy.deepcopy(model).eval()
    criterion, average, progress = momentum(model)
    progress.global_step = 100
    with torch.no_grad():
        for parameter in model.parameters():  # the student has moved on, its average has not
            parameter.add_(0.1)
    batch = make_batch()
    with torch.no_grad():
        wanted = expected(batch["images"], batch["decoder_input_tokens"], None, batch["target_mask"])
    torch.testing.assert_close(criterion.predict(batch), wanted)
    assert model.training
    loss, count = criterion(model, batch)
    (loss / count).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
