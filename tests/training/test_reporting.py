"""What a run says of itself."""

import pytest
import torch

from training.reporting import print_device


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_that_a_cpu_is_slow_at_is_said(dtype, capsys):
    print_device(torch.device("cpu"), dtype)
    assert ("fp16 is slower than fp32 on a CPU" in capsys.readouterr().out) is (dtype == torch.float16)
