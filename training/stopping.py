"""Stop a run from outside without losing a step: SIGTERM and Ctrl-C let the step in progress end first."""

import signal
from types import FrameType
from typing import Any

from training.processes import Processes


class Stopped(Exception):
    """Raised between two steps after a stop was asked for."""


class StopSignal:
    """Inside `with StopSignal(...):` a first SIGTERM or Ctrl-C sets `requested`.

    Another Ctrl-C interrupts, where there is one process.
    """

    def __init__(self, processes: Processes):
        self.processes = processes
        self.requested: str | None = None
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGTERM, signal.SIGINT):
            self.previous[number] = signal.signal(number, self.note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def note(self, number: int, _frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT and self.processes.share.count == 1:  # torchrun repeats it
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name

    def check(self) -> None:
        if reason := self.processes.agreed(self.requested):
            raise Stopped(reason)
