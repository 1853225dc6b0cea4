"""What turns gradients into weight updates: AdamW and the learning-rate schedule.

The learning rate is a pure function of the optimizer step; each part of the model has its own peak.
"""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from basics.settings import Settings
from networks.parameters import ParameterGroup

Schedule = Callable[[int, int], float]  # optimizer step, steps of an epoch -> share of the peak learning rate


def make_optimizer(groups: list[ParameterGroup], settings: Settings) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101); the encoder has a peak learning rate of its own."""
    peaks = {"encoder": settings.ENCODER_LEARNING_RATE or settings.LEARNING_RATE}
    return torch.optim.AdamW(
        [
            {
                "params": group.parameters,
                "lr": peaks.get(group.part, settings.LEARNING_RATE),
                "weight_decay": settings.WEIGHT_DECAY if group.decayed else 0.0,
            }
            for group in groups
        ],
        betas=(0.9, settings.ADAM_BETA2),
        fused=True,
    )


def clip_gradients(model: nn.Module, limit: float) -> float:
    """Scale the gradients down to the norm `limit` of the whole of them -> their norm before."""
    with_gradient = [parameter for parameter in model.parameters() if parameter.grad is not None]
    return float(nn.utils.clip_grad_norm_(with_gradient, limit))


def make_scheduler(optimizer: torch.optim.Optimizer, schedule: Schedule, steps_per_epoch: int) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: schedule(step, steps_per_epoch))


def warmup_steps(settings: Settings, steps: int) -> int:
    """WARMUP_STEPS, or that share of all steps; never more than there are."""
    wanted = settings.WARMUP_STEPS
    return min(round(wanted * steps) if wanted < 1 else int(wanted), steps)


def learning_rate_factor(step: int, warmup: int, steps: int, schedule: str) -> float:
    """Share of the peak learning rate: linear warm-up, then "constant", "linear" or "cosine" down to 0 at `steps`."""
    if step < warmup:
        return step / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[schedule]


def restore_optimizer(
    optimizer: torch.optim.Optimizer, scheduler: LambdaLR, optimizer_state: dict, scheduler_state: dict
) -> None:
    """Load moments and step from a checkpoint, while learning rates, decay and betas stay those of today's settings.

    With unchanged settings the values are the checkpoint's own, to the bit.
    """
    fresh = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(optimizer_state)
    check_moments(optimizer)
    scheduler.load_state_dict(scheduler_state)
    scheduler.base_lrs = [group["initial_lr"] for group in fresh]
    for group, values, schedule in zip(optimizer.param_groups, fresh, scheduler.lr_lambdas):
        group.update(values, lr=values["initial_lr"] * schedule(scheduler.last_epoch))


def check_moments(optimizer: torch.optim.Optimizer) -> None:
    """Raises ValueError for moments that are not like their parameter: the fused step would write past their end."""
    for parameter, state in optimizer.state.items():
        like = dict.fromkeys(("exp_avg", "exp_avg_sq"), parameter) | {"step": torch.zeros(())}
        for name, expected in like.items():
            found = state.get(name) if isinstance(state, dict) else None
            if not isinstance(found, torch.Tensor) or (found.shape, found.dtype) != (expected.shape, expected.dtype):
                raise ValueError(f"the optimizer's {name} is not that of its parameter")
