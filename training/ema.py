"""An exponential moving average of the trained weights, which validates and generalises better than the last step's.

    average = WeightAverage(model, 0.999)
    average.update(model)               # after each optimizer step
    with average.applied(model): ...    # inside, the model has the averaged weights

Polyak & Juditsky 1992; the decay starts low, so that the first, random weights are soon forgotten.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class WeightAverage:
    """Average of the parameters that train, by name; decay None: there is none, and applied() changes nothing."""

    def __init__(self, model: nn.Module, decay: float | None):
        self.decay, self.steps = decay, 0
        self.values = {name: parameter.detach().clone() for name, parameter in self.trained(model).items()}

    def trained(self, model: nn.Module) -> dict[str, Tensor]:
        return {name: p for name, p in model.named_parameters() if p.requires_grad} if self.decay else {}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        if not self.decay:
            return
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self.values.values()), list(self.trained(model).values()), 1 - decay)

    @contextlib.contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        self.swap(model)
        try:
            yield
        finally:
            self.swap(model)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        for name, parameter in self.trained(model).items():
            if type(parameter.data) is Tensor:
                parameter.data, self.values[name] = self.values[name], parameter.data
                continue
            value = parameter.clone()  # FSDP reads its parts where they are
            parameter.copy_(self.values[name])
            self.values[name].copy_(value)

    @torch.no_grad()
    def restart(self, model: nn.Module) -> None:
        """Go on from the averaged weights, with an average that begins anew."""
        self.steps = 0
        for name, parameter in self.trained(model).items():
            parameter.copy_(self.values[name])

    def state_dict(self) -> dict:
        return {"steps": self.steps, "values": self.values}

    def load_state_dict(self, state: dict) -> None:
        """Raises ValueError where the average is of another model, or of none."""
        if {n: v.shape for n, v in state["values"].items()} != {n: v.shape for n, v in self.values.items()}:
            raise ValueError("EMA_DECAY was switched on or off, or the averaged weights are of another model")
        self.steps = state["steps"]
        for name, value in state["values"].items():
            self.values[name].copy_(value)
