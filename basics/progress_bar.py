"""Progress of long work: a bar on a terminal; in a log, which is no screen, a line every half minute."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

from basics.launched import launched

OF_A_LOG = 30  # seconds


def progress_bar(
    items: Iterable[Any] | None = None, desc: str | None = None, unit: str = "it", interval: float = 0.1, **options: Any
) -> tqdm:
    """tqdm's bar over items, or to update() by hand, gone when all is done; options are tqdm's, its total say.

    interval: seconds between updates on a terminal.
    """
    quiet = interval if sys.stderr.isatty() else OF_A_LOG
    options |= {"mininterval": quiet, "delay": quiet, "disable": not launched().speaks}
    return tqdm(items, desc=desc, unit=unit, leave=False, dynamic_ncols=True, **options)


def skip(bar: tqdm, count: int) -> None:
    """Move on by what was done before, which says nothing of the speed."""
    if not bar.disable:
        bar.initial, bar.n, bar.last_print_n = bar.initial + count, bar.n + count, bar.last_print_n + count


def say_beside_bar(text: str, file: TextIO) -> None:
    """Print text as it is, at once, without breaking a bar that is drawn on the terminal."""
    if sys.stderr.isatty():
        tqdm.write(text, end="", file=file)
    else:
        file.write(text)
    file.flush()
