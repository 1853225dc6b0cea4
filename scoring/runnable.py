"""A classifier in one form, PyTorch's or an export, ready to be measured. Imports no torch: exports need none."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BATCH = 64  # pictures at once whose speed and memory are measured


@dataclass
class Runnable:
    """`pixels` are BATCH prepared pictures; logits(pixels) -> (B, C), on the CPU."""

    group: str
    form: str  # "PyTorch float32", "ONNX int8"
    costs: dict[str, Any]  # what is known without running it
    pixels: Any
    logits: Callable[[Any], Any]
    peak: Callable[[], int | None]  # bytes of a process of its own

    @property
    def name(self) -> str:
        return f"{self.group}, {self.form}"

    def one(self) -> None:
        self.logits(self.pixels[:1])

    def many(self) -> None:
        self.logits(self.pixels)
