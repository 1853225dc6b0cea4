"""Which device computes, and in which precision."""

import contextlib

import torch

from basics.errors import UserError
from basics.launched import launched
from basics.settings import Settings

Batch = dict[str, torch.Tensor]  # what a Source gives and a Criterion takes, tensors by name


def pick_device(name: str | None) -> torch.device:
    """The device of that name, or the best there is; of several processes each has a GPU of its own.

    Raises UserError when it is not there.
    """
    launch = launched()
    here = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if launch.several:
        here["mps"] = 0  # which no library exchanges gradients for
    name = name or next(kind for kind, count in here.items() if count)
    if name == "cuda" and launch.several:
        name = f"cuda:{launch.index_here}"
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


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
    return torch.autocast(device.type, dtype) if dtype != torch.float32 else contextlib.nullcontext()


def make_scaler(device: torch.device, dtype: torch.dtype) -> torch.amp.GradScaler:
    """Scales fp16 losses so that small gradients do not vanish; does nothing for other precisions."""
    return torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)


def to_device(batch: Batch, device: torch.device) -> Batch:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
