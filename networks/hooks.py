"""The outputs of named modules while a model runs, for losses between features inside a student and its teacher.

with ActivationHooks(model, ["encoder.backbone.layers.3"]) as features:
    loss = criterion(model(images), features["encoder.backbone.layers.3"])  # (U, S, E), part of the graph
    loss.backward()
    features.clear()  # else the activations of a step live until the next one
"""

import difflib
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from basics.errors import UserError

Output = Tensor | tuple | dict[str, Any]  # of a module; transformers' ModelOutput is a dict


class ActivationHooks:
    """Context manager -> dict of module name -> its last output; hooks and activations are gone when it ends.

    Of a module that returns a tuple or a transformers ModelOutput, the first tensor. A module that runs twice leaves
    its last output, a second time in backward() under activation checkpointing too: compute the loss before backward.
    Whatever then works in place on an output, such as nn.ReLU(inplace=True), changes it here too.
    torch.compile: enter first, then compile, and keep one as long as the compiled model; hooks after its first call
    are silently left out. Clear the features after each step: a filled dict makes it compile again.
    DistributedDataParallel: give it the module inside.
    """

    def __init__(self, model: nn.Module, names: Iterable[str]):
        self.modules = find_modules(model, names)
        self.features: dict[str, Tensor] = {}
        self.handles: list[RemovableHandle] = []

    def __enter__(self) -> dict[str, Tensor]:
        for name, module in self.modules.items():
            self.handles.append(module.register_forward_hook(keep_in(self.features, name)))
        return self.features

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self.handles:
            self.handles.pop().remove()
        self.features.clear()


def find_modules(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    """Names as in model.named_modules() -> their modules. Raises UserError."""
    names, modules = list(names), dict(model.named_modules(remove_duplicate=False))
    for name in names:
        if name not in modules:
            nearest = ", ".join(map(repr, difflib.get_close_matches(name, filter(None, modules), n=3, cutoff=0)))
            raise UserError(f"{type(model).__name__} has no module {name!r}; the nearest names are {nearest or 'none'}")
    return {name: modules[name] for name in names}


def keep_in(features: dict[str, Tensor], name: str) -> Callable[[nn.Module, tuple, Output], None]:
    """A forward hook; it returns nothing, so that the module's output stays what it was."""

    def hook(module: nn.Module, inputs: tuple, output: Output) -> None:
        features[name] = first_tensor(output)

    return hook


def first_tensor(output: Output) -> Tensor:
    if isinstance(output, Tensor):
        return output
    for value in output.values() if isinstance(output, dict) else output:
        if isinstance(value, Tensor):
            return value
    raise TypeError(f"a hooked module must return a tensor first of all, got {type(output).__name__} without one")
