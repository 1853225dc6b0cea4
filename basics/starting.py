"""The seconds in which a script imports its libraries: Ctrl-C ends it in one line, a terminal says what it waits for.

And what must be set before them: how the process keeps its memory, and how its threads wait for one another.

Every script imports this before all else and run_script() calls over(). Importing it does nothing where something else
than a script of the project is run, a notebook or a test.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from basics.launched import launched
from basics.memory import keep_freed_memory

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 1.0  # seconds until a terminal is told
WAITING = "loading PyTorch ..."
# Turns that a thread waits awake for the others of a matrix product, of libgomp, whose own 300,000 are a third of the
# speed where one more program computes. Captions are made of shorter products, which gain nothing by it.
SPINS = {"train.py": "2000"}


def wait_briefly(script: str) -> None:
    """Where whoever started the script has not said how threads wait."""
    if script in SPINS and not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPINS[script]


def leave(number: int, frame: FrameType | None) -> None:
    """At once: in the middle of an import KeyboardInterrupt may be swallowed, or end in a page of others' frames."""
    if launched().speaks:
        os.write(2, b"\ninterrupted\n")
    os._exit(130)


def say() -> None:
    print(WAITING, end="", file=sys.stderr, flush=True)


def over() -> None:
    """The imports are done: Ctrl-C raises KeyboardInterrupt again, SIGTERM too; the terminal's line is cleared."""
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # SIGTERM's own end would leave unfinished files behind; but torchrun's processes may be waiting for one another
    # outside Python, where no handler runs, and must end all the same
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and "LOCAL_RANK" not in os.environ:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    if timer.is_alive():
        timer.cancel()
    elif is_script and sys.stderr.isatty():
        print("\r" + " " * len(WAITING) + "\r", end="", file=sys.stderr, flush=True)


script = Path(getattr(sys.modules["__main__"], "__file__", None) or "").resolve()
is_script = script.parent == ROOT and script.is_file()
timer = threading.Timer(PATIENCE, say)
timer.daemon = True
if is_script:
    keep_freed_memory()
    wait_briefly(script.name)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started it wants no Ctrl-C
        signal.signal(signal.SIGINT, leave)
    if sys.stderr.isatty() and launched().speaks:
        timer.start()
