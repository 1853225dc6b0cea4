"""Stop a run from outside without losing a step: SIGTERM and Ctrl-C let the step in progress end first."""

import signal


class Stopped(Exception):
    """Raised between two steps after a stop was asked for."""


class StopSignal:
    """Within `with StopSignal() as stop:`, a first SIGTERM or Ctrl-C sets `requested`; a second Ctrl-C interrupts."""

    def __init__(self):
        self.requested: str | None = None
        self.previous: dict = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGTERM, signal.SIGINT):
            self.previous[number] = signal.signal(number, self.note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def note(self, number: int, _frame) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name

    def check(self) -> None:
        if self.requested:
            raise Stopped(self.requested)
