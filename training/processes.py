"""The door to several processes that train one model together."""

from typing import Protocol, TypeVar

import torch
from torch import nn

from sources.source import Share

Number = TypeVar("Number", int, float)


class Processes(Protocol):
    """What the loop asks of the other processes; one process is the trivial case, so the loop has no branch for it."""

    @property
    def is_main(self) -> bool:
        """Whether this is the one that speaks and writes."""
        ...

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as criteria call it, whose backward pass sums the gradients of all processes."""
        ...

    def sum(self, value: Number) -> Number:
        """Over all processes, which all call it."""
        ...

    def clip(self, model: nn.Module, limit: float) -> float:
        """Scale the gradients down to the norm `limit` of the whole of them -> their norm before."""
        ...

    def agreed(self, stop: str | None) -> str | None:
        """The reason to stop that any process has: all stop at the same step."""
        ...

    @property
    def here(self) -> Share:
        """Among the processes of this machine, which share its disks."""
        ...

    def wait(self) -> None:
        """Until all processes have come as far."""
        ...


class OneProcess:
    """Training alone."""

    is_main, here = True, Share()

    def wait(self) -> None:
        pass

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def sum(self, value: Number) -> Number:
        return value

    def clip(self, model: nn.Module, limit: float) -> float:
        with_gradient = [parameter for parameter in model.parameters() if parameter.grad is not None]
        return float(torch.nn.utils.clip_grad_norm_(with_gradient, limit))

    def agreed(self, stop: str | None) -> str | None:
        return stop
