"""How much of the machine a run uses: its matrix products a second beside the fastest the machine can do.

    peak = matmul_peak(device, dtype)                      # FLOP/s of large square matrix products
    flops = example_flops(run)                             # FLOPs of training on one example

FLOPs are those of matrix products and convolutions as PyTorch counts them, on padding too. All else that a step does
(norms, softmax, dropout, the optimizer, loading) counts as time and not as work.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from basics.devices import autocast, to_device
from training.run import Run

SIDES = (128, 256, 512, 1024, 2048, 4096, 8192)  # of the square matrices, as many as there is TIME for
REPEATS = 5
TIME = 1.5  # seconds; on two cores 2048 has the speed of 4096, whose repeats take 5 to 10 seconds


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest square matrix product, the best of several sizes and repeats."""
    speeds: list[float] = []
    end = time.perf_counter() + TIME
    for side in SIDES:
        two_products = 2 * 2 * side**3  # FLOPs
        if speeds and time.perf_counter() + two_products / max(speeds) > end:
            break
        speeds.append(2 * side**3 / product_seconds(torch.randn(side, side, device=device, dtype=dtype), end))
    return max(speeds)


def product_seconds(matrix: Tensor, end: float) -> float:
    """The fastest of REPEATS products, or of those until `end`; the first prepares the library and does not count."""
    seconds: list[float] = []
    while len(seconds) < 2 or len(seconds) <= REPEATS and time.perf_counter() < end:
        synchronize(matrix.device)
        started = time.perf_counter()
        matrix @ matrix
        synchronize(matrix.device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def example_flops(run: Run) -> float:
    """FLOPs of a step with the validation's criterion, by the examples of the first batch it takes."""
    source, criterion = run.task.train, run.task.val_criterion
    batch = to_device(next(source.batches()), run.device)
    examples = min(source.batch_size, source.num_examples)
    with autocast(run.device, run.dtype):
        flops = step_flops(lambda: criterion(run.model, batch), run.model)  # of this process's share of the batch
    return run.processes.sum(flops) / examples


def step_flops(loss: Callable[[], tuple[Tensor, int]], model: nn.Module) -> int:
    """FLOPs of a criterion's call and its backward pass; leaves random numbers as they were and no gradients.

    In train mode the statistics of BatchNorm layers move as in any step.
    """
    devices = [p.device for p in model.parameters() if p.device.type == "cuda"][:1]
    with torch.random.fork_rng(devices), FlopCounterMode(display=False) as counter:
        loss()[0].backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops()
