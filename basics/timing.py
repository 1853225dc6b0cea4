"""Measure work in turn, so that a busy machine is busy for all of it alike, and say what was measured.

seconds = in_turn({"ours": caption, "peer": generate}, repeats=5)       # A B A B ...
median_and_range(rates(32, seconds["ours"]))                            # pictures/s: "12.3 (11.9 to 12.6)"
"""

import contextlib
import functools
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from basics.errors import UserError
from basics.progress_bar import progress_bar


def in_turn(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each side in each repeat; a round before the first, which fills caches, does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in progress_bar(range(repeats + 1), desc=", ".join(sides), unit=" rounds"):
        for name, work in sides.items():
            started = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - started)
    return {name: values[1:] for name, values in seconds.items()}


def rates(amount: float, seconds: list[float]) -> list[float]:
    return [amount / value for value in seconds]


def median_and_range(values: list[float]) -> str:
    """Median (smallest to largest); one value stands alone."""
    middle = number(statistics.median(values))
    return middle if len(set(values)) == 1 else f"{middle} ({number(min(values))} to {number(max(values))})"


def number(value: float) -> str:
    """Three figures: 0.0123, 1.23, 12.3, 1,230."""
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(0, digits)}f}"


@functools.cache
def processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def run_python(
    name: str, *arguments: str, cwd: Path | None = None, module_path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A new Python process to its end, which finds modules in module_path too. Raises UserError with its last words."""
    paths = [str(module_path)] if module_path else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])}
    result = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise UserError((result.stderr.strip().splitlines() or [f"{name} failed"])[-1].removeprefix("error: "))
    return result
