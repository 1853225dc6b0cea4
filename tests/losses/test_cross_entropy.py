"""The cross-entropy that makes its gradient on the way: PyTorch's own value and gradient."""

import pytest
import torch
import torch.nn.functional as F

from losses.cross_entropy import cross_entropy
from losses.row_loss import RowLoss


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 4e-3), (torch.float16, 1e-3)])
def test_value_and_gradient_are_pytorchs(label_smoothing, dtype, tolerance):
    random = torch.Generator().manual_seed(1)
    logits = (3 * torch.randn(300, 50, generator=random)).to(dtype).requires_grad_()
    targets = torch.randint(50, (300,), generator=random)
    loss = RowLoss.apply(logits, cross_entropy(targets, label_smoothing))
    expected = F.cross_entropy(logits.float(), targets, label_smoothing=label_smoothing, reduction="sum")
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-3)
    (ours,), (theirs,) = (torch.autograd.grad(value * 0.5, logits) for value in (loss, expected))
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * 0.01)


def test_gradients_too_small_for_fp16_survive_the_scaler():
    logits = torch.tensor([[18.0, 0.0, 0.0]], dtype=torch.float16, requires_grad=True)
    (2.0**16 * RowLoss.apply(logits, cross_entropy(torch.tensor([0]), 0.0))).backward()
    expected = 2.0**16 * torch.tensor([[18.0, 0.0, 0.0]]).softmax(-1)[0, 1]
    torch.testing.assert_close(logits.grad[0, 1].float(), expected, rtol=1e-2, atol=0)


def test_no_targets_are_no_loss():
    logits = torch.zeros(0, 5, requires_grad=True)
    loss = RowLoss.apply(logits, cross_entropy(torch.zeros(0, dtype=torch.long), 0.1))
    loss.backward()
    assert loss == 0 and logits.grad.shape == (0, 5)
