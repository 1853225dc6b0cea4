"""Scripts as a user runs them, but in this process: starting Python takes longer than most of what they do."""

import contextlib
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from basics.errors import run_script


def call(main: Callable[[list[str]], int | None], *arguments, cwd: Path) -> subprocess.CompletedProcess:
    """A script's main() to its end, with what it prints, the line of a UserError, and its exit status."""
    out, err, flags = io.StringIO(), io.StringIO(), list(map(str, arguments))
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        with mock.patch.object(sys, "argv", ["script", *flags]), pytest.raises(SystemExit) as end:
            run_script(main)
    print(out.getvalue(), err.getvalue())  # shown where a test fails
    return subprocess.CompletedProcess(flags, end.value.code, out.getvalue(), err.getvalue())
