"""What turns losses into weight updates: parameter groups, learning-rate schedule, precision.

The learning rate is a pure function of the optimizer step; each part of the model has its own peak.
"""

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from basics.settings import Settings


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) over every trainable parameter, each in exactly one group.

    Groups: encoder and rest, each with its own peak learning rate, matrices decayed and all else not.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            in_encoder = name.startswith("encoder.")
            decayed = parameter.ndim >= 2 and "embedding" not in name
            groups.setdefault((in_encoder, decayed), []).append(parameter)
    encoder_lr = settings.ENCODER_LEARNING_RATE or settings.LEARNING_RATE
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": encoder_lr if in_encoder else settings.LEARNING_RATE,
                "weight_decay": settings.WEIGHT_DECAY if decayed else 0.0,
            }
            for (in_encoder, decayed), parameters in sorted(groups.items(), key=lambda item: item[0])
        ],
        betas=(0.9, settings.ADAM_BETA2),
        fused=True,
    )


def make_scheduler(
    optimizer: torch.optim.Optimizer, settings: Settings, steps: int, self_critical_steps: int = 0
) -> LambdaLR:
    """Over `steps` LR_SCHEDULE, then over self_critical_steps SCST_LEARNING_RATE falling to 0."""

    def factor(step: int) -> float:
        if step < steps or not self_critical_steps:
            return learning_rate_factor(step, min(settings.WARMUP_STEPS, steps), steps, settings.LR_SCHEDULE)
        left = 1 - (step - steps) / self_critical_steps
        return settings.SCST_LEARNING_RATE / settings.LEARNING_RATE * max(0.0, left)

    return LambdaLR(optimizer, factor)


def learning_rate_factor(step: int, warmup: int, steps: int, schedule: str) -> float:
    """Share of the peak learning rate: linear warm-up, then "constant", "linear" or "cosine" down to 0 at `steps`."""
    if step < warmup:
        return step / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[schedule]


def restore_optimizer(
    optimizer: torch.optim.Optimizer, scheduler: LambdaLR, optimizer_state: dict, scheduler_state: dict
):
    """Load moments and step from a checkpoint, while learning rates, decay and betas stay those of today's settings.

    With unchanged settings the values are the checkpoint's own, to the bit.
    """
    fresh = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(optimizer_state)
    scheduler.load_state_dict(scheduler_state)
    scheduler.base_lrs = [group["initial_lr"] for group in fresh]
    for group, values, schedule in zip(optimizer.param_groups, fresh, scheduler.lr_lambdas):
        group.update(values, lr=values["initial_lr"] * schedule(scheduler.last_epoch))
