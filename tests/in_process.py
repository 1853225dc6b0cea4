"""Scripts as a user runs them, but in this process: starting Python takes longer than most of what they do."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
from tiny import TINY, flags

import train as train_script
from basics.errors import run_script
from training import utilisation
from training.checkpoint import restore_rng, rng_state


@contextlib.contextmanager
def in_folder(cwd: Path) -> Iterator[None]:
    """What a process has of its own is put back after: folder, environment, warnings, signals, random numbers.

    Utilisation is measured on small matrices: products of large ones take seconds, minutes in 16 bits on some CPUs.
    """
    random_numbers = rng_state()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with contextlib.chdir(cwd), mock.patch.dict(os.environ), warnings.catch_warnings():
        with mock.patch.object(utilisation, "SIDES", (64,)):
            try:
                yield
            finally:
                restore_rng(random_numbers)
                for number, handler in handlers.items():
                    signal.signal(number, handler)


def call(main: Callable[[list[str]], int | None], *arguments, cwd: Path) -> subprocess.CompletedProcess:
    """A script's main() to its end, with what it prints, the line of a UserError, and its exit status."""
    out, err, typed = io.StringIO(), io.StringIO(), list(map(str, arguments))
    with in_folder(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        with mock.patch.object(sys, "argv", ["script", *typed]), pytest.raises(SystemExit) as end:
            run_script(main)
    print(out.getvalue(), err.getvalue())  # shown where a test fails
    return subprocess.CompletedProcess(typed, end.value.code, out.getvalue(), err.getvalue())


def train(cwd: Path, *arguments, **settings) -> subprocess.CompletedProcess:
    """train.py with tiny settings, to its end."""
    return call(train_script.main, *flags(**{**TINY, **settings}), *arguments, cwd=cwd)
