"""The door to several processes that train one model together; joining.py says which there are."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from basics.launched import ALL, Share
from basics.settings import Settings
from networks.parameters import TrainableModel

Number = TypeVar("Number", int, float)
Item = TypeVar("Item")
Result = TypeVar("Result")


class Processes(Protocol):
    """What a run asks of the other processes; one process is the trivial case, so the loop has no branch for it.

    All processes call a method where one does, in the same order, except where its line says otherwise.
    """

    @property
    def share(self) -> Share:
        """Which of all processes this is; asked by any."""
        ...

    @property
    def here(self) -> Share:
        """The same among the processes of this machine, which share its disks."""
        ...

    @property
    def is_main(self) -> bool:
        """Whether this is the one that speaks and writes; asked by any."""
        ...

    def check(self, settings: Settings) -> None:
        """Raises UserError for settings that these processes cannot train with."""
        ...

    def wrap(self, model: TrainableModel, settings: Settings) -> nn.Module:
        """The model as criteria call it, whose backward pass averages the gradients of all processes."""
        ...

    def sum(self, value: Number) -> Number:
        """Over all processes."""
        ...

    def agreed(self, stop: str | None) -> str | None:
        """The reason to stop that any process has: all stop at the same step."""
        ...

    def wait(self) -> None:
        """Until all processes have come as far."""
        ...

    def gather(self, value: Item) -> list[Item]:
        """The value of each process, on all of them."""
        ...

    def from_main(self, value: Item) -> Item:
        """The main process's value."""
        ...

    def shared_out(self, items: Sequence[Item], work: Callable[[list[Item]], list[Result]]) -> list[Result]:
        """work(part of the items) -> a result each, done by all processes -> the results of all items, in order."""
        ...

    def whole(self, state: dict[str, Any]) -> dict[str, Any]:
        """A state dict whose tensors are whole, in the main process; others may lack those that are sharded."""
        ...

    def placed(self, tensor: Tensor, like: Tensor) -> Tensor:
        """A whole tensor as this process keeps `like`, perhaps a part of it; by any."""
        ...


class OneProcess:
    """Training alone."""

    share = here = ALL
    is_main = True

    def check(self, settings: Settings) -> None:
        pass

    def wrap(self, model: TrainableModel, settings: Settings) -> nn.Module:
        return model

    def sum(self, value: Number) -> Number:
        return value

    def agreed(self, stop: str | None) -> str | None:
        return stop

    def wait(self) -> None:
        pass

    def gather(self, value: Item) -> list[Item]:
        return [value]

    def from_main(self, value: Item) -> Item:
        return value

    def shared_out(self, items: Sequence[Item], work: Callable[[list[Item]], list[Result]]) -> list[Result]:
        return work([*items])

    def whole(self, state: dict[str, Any]) -> dict[str, Any]:
        return state

    def placed(self, tensor: Tensor, like: Tensor) -> Tensor:
        return tensor


@contextlib.contextmanager
def main_first(processes: Processes) -> Iterator[None]:
    """Within, the main process goes first: what it makes, and says that it makes, the others find."""
    if not processes.is_main:
        processes.wait()
    yield
    if processes.is_main:
        processes.wait()
