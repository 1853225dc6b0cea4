"""Ours and the peer in turn in one run, and a table of both and their ratio: what the benchmarks share.

    seconds = in_turn({"ours": caption, "peer": generate}, repeats=5)       # A B A B ...
    rows = [Row("greedy", "images/s", rates(32, seconds["ours"]), rates(32, seconds["peer"]))]
    compare(rows, command("captioning", argv), output=None, notes=[])

A value is the median over the repeats, with the smallest and the largest behind it; so is the ratio, repeat by repeat.
"""

import argparse
import contextlib
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path

from basics.files import write_atomically
from basics.memory import keep_freed_memory
from basics.timing import median_and_range, processor

ROOT = Path(__file__).parents[1]


@dataclass
class Row:
    """One claim: what ours and the peer reached in each repeat."""

    name: str
    unit: str
    ours: list[float]
    peer: list[float]
    ratio: list[float] = field(init=False)  # ours / peer of each repeat

    def __post_init__(self):
        self.ratio = [ours / peer for ours, peer in zip(self.ours, self.peer, strict=True)]


def make_parser(name: str, text: str, repeats: int | None) -> argparse.ArgumentParser:
    """The flags that all benchmarks have; text is the script's docstring, repeats None: nothing is repeated."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=text,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if repeats:
        parser.add_argument("--repeats", type=int, default=repeats, help="times each side is measured")
    parser.add_argument("--output", help="write the machine and every value to this JSON file")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """What both sides are made of, for the benchmarks that build models."""
    parser.add_argument("--encoder", required=True, help="folder of the frozen encoder")
    parser.add_argument("--width", type=int, default=384, help="of the decoder")
    parser.add_argument("--layers", type=int, default=3, help="of the decoder")
    parser.add_argument("--heads", type=int, default=6, help="of the decoder")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures captioned at once; captions a peer's step")
    parser.add_argument("--profile", action="store_true", help="also print what ours spends its time on")


def compare(rows: list[Row], command: str, output: str | None, notes: list[str]) -> None:
    report([asdict(row) for row in rows], "\n".join([table(rows), "", *notes]), command, output)


def report(rows: list[dict], text: str, command: str, output: str | None) -> None:
    """Print machine, command and text; the JSON file holds every value of the rows."""
    print(f"machine      {machine()}\ncommand      {command}\n\n{text.rstrip()}")
    if output:
        content = {"machine": machine(), "command": command, "text": text, "rows": rows}
        write_atomically(Path(output), json.dumps(content, indent=2))


def table(rows: list[Row]) -> str:
    """Markdown that reads as plain text too."""
    header = ["", "unit", "ours", "peer", "ours / peer"]
    lines = [[row.name, row.unit, *map(median_and_range, (row.ours, row.peer, row.ratio))] for row in rows]
    return markdown(header, lines)


def markdown(header: list[str], lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *lines)]
    lines = [header, ["-" * width for width in widths], *lines]
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines)


def machine() -> str:
    """CPU, cores, threads, versions and date: what a number means nothing without."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{processor()}, {cores} cores, {torch.get_num_threads()} threads, {platform.system()}, Python "
        f"{platform.python_version()}, torch {torch.__version__}, transformers {version('transformers')}, "
        f"{date.today()}"
    )


def command(name: str, argv: list[str]) -> str:
    return f"python -m benchmarks.{name} {' '.join(argv)}".rstrip()


@contextlib.contextmanager
def set_up() -> Iterator[None]:
    """What is printed inside goes to stderr: stdout is for the table. Both sides keep memory as scripts do."""
    keep_freed_memory()
    with contextlib.redirect_stdout(sys.stderr):
        yield


def top_operators(name: str, work: Callable[[], object], count: int = 15) -> str:
    """What bounds a piece of work: the operators that take the most time themselves, as PyTorch's profiler sees it."""
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events) or 1
    lines = [
        f"{event.self_cpu_time_total / total:8.1%}  {event.count:7,}  {event.key[:60]}" for event in events[:count]
    ]
    return "\n".join([f"profile      {name}: share of the CPU time, calls, operator", *lines])
