"""Threads that decode pictures side by side, without holding more pixels than one of them would."""

import contextlib
import threading
from collections.abc import Iterator


class PixelBudget:
    """At most `total` pixels in work at once, whatever the number of threads; a picture with more goes alone."""

    def __init__(self, total: int):
        self.total = self.free = total
        self.changed = threading.Condition()

    @contextlib.contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for so many, and keep it while they are in work."""
        pixels = min(pixels, self.total)
        with self.changed:
            self.changed.wait_for(lambda: self.free >= pixels)
            self.free -= pixels
        try:
            yield
        finally:
            with self.changed:
                self.free += pixels
                self.changed.notify_all()
