"""What turns losses into weight updates: parameter groups, learning-rate schedule, precision.

The learning rate is a pure function of the optimizer step; each part of the model has its own peak.
"""

import contextlib
import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from basics.errors import UserError
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


def pick_device(name: str | None) -> torch.device:
    """The device of that name, or the best there is. Raises UserError when it is not there."""
    here = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if name is None:
        return torch.device(next(kind for kind, count in here.items() if count))
    kind, _, index = name.partition(":")
    if kind not in here or not (index or "0").isdigit() or int(index or 0) >= here[kind]:
        there = ", ".join(f"{count} {kind}" for kind, count in here.items() if count)
        raise UserError(f"there is no device {name!r}; this machine has {there}")
    return torch.device(name)


def pick_precision(settings: Settings, device: torch.device) -> torch.dtype:
    """The dtype of autocast; torch.float32 means autocast is off."""
    if settings.PRECISION != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[settings.PRECISION]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.float16 if device.type == "mps" else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager:
    return torch.autocast(device.type, dtype) if dtype != torch.float32 else contextlib.nullcontext()


def make_scaler(device: torch.device, dtype: torch.dtype) -> torch.amp.GradScaler:
    """Scales fp16 losses so that small gradients do not vanish; does nothing for other precisions."""
    return torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
