"""Where whoever reads a script's output has gone, it ends quietly."""

import os
import signal
import subprocess
import sys

import pytest
from tiny import ROOT

from basics import starting

SCRIPT = """
import argparse
from basics.errors import UserError, run_script

def main(argv):
    if argv == ["--help"]:
        argparse.ArgumentParser().parse_args(argv)
    print("a caption" if argv != ["much"] else "a caption\\n" * 100_000)
    if argv == ["wrong"]:
        raise UserError("what is wrong")

run_script(main)
"""


def run_script(flag: str, stdout) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", SCRIPT, flag]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(command, cwd=ROOT, env=buffered, stdout=stdout, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("flag", ["little", "much", "--help", "wrong"])
def test_a_closed_pipe_is_no_error_and_no_traceback(flag):
    read, write = os.pipe()
    os.close(read)
    found = run_script(flag, write)
    os.close(write)
    assert (found.returncode, found.stderr) == (141, "")


def test_other_ends_are_as_before():
    assert run_script("little", subprocess.PIPE).returncode == 0
    wrong = run_script("wrong", subprocess.PIPE)
    assert (wrong.returncode, wrong.stdout, wrong.stderr) == (1, "a caption\n", "error: what is wrong\n")


def test_ctrl_c_while_libraries_are_imported_is_one_word():
    started = subprocess.Popen(
        [sys.executable, "-X", "importtime", "train.py", "--help"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background shells ignore it
    )
    assert any("| " in line and "torch._" in line for line in started.stderr)  # PyTorch's import is on its way
    started.send_signal(signal.SIGINT)
    left = [line for line in started.stderr if not line.startswith("import time:") and line.strip()]
    assert started.wait() == 130 and left == ["interrupted\n"]


@pytest.mark.parametrize("of_torchrun, handler", [(False, signal.default_int_handler), (True, signal.SIG_DFL)])
def test_sigterm_is_as_ctrl_c_but_where_processes_wait_for_one_another(monkeypatch, of_torchrun, handler):
    monkeypatch.setenv("LOCAL_RANK", "0") if of_torchrun else monkeypatch.delenv("LOCAL_RANK", raising=False)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        starting.over()
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
