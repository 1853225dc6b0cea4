"""What a user can put right is a UserError: one clear line instead of a traceback.

if __name__ == "__main__":
    run_script(main)        # `--debug` anywhere on the command line shows the traceback
"""

import atexit
import contextlib
import io
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

from basics import starting
from basics.paths import shown

LONGEST = 300  # characters of another's error within a message of ours
PIPE_CLOSED = 141  # the exit status that shells show for programs that a closed pipe has ended


class UserError(Exception):
    """Something the user can put right; the message says what was wrong, what was expected and what to type.

    What names and values in it hold beside printable characters is escaped.
    """

    def __init__(self, text: str):
        super().__init__("\n".join(map(shown, text.split("\n"))))


class SaidElsewhere(UserError):
    """What another process of the same run tells the user; this one ends without a word."""

    def __init__(self) -> None:
        super().__init__("told by another process")


def run_script(main: Callable[[list[str]], int | None]) -> None:
    """Call main(flags) and exit: 0 or main's own status, 1 with one line on stderr after a UserError, 130 when stopped.

    Where whoever reads the output has gone (`| head -1`), quietly: 141.
    """
    starting.over()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files go out as they came, or escaped
        sys.stdout.reconfigure(errors="surrogateescape" if sys.stdout.encoding == "utf-8" else "backslashreplace")
    argv = [flag for flag in sys.argv[1:] if flag != "--debug"]
    exit_now(exit_status(main, argv, debug=len(argv) < len(sys.argv) - 1))


def exit_status(main: Callable[[list[str]], int | None], argv: list[str], debug: bool) -> int:
    """What main() comes to; errors that are no user's are raised."""
    try:
        try:
            return main(argv) or 0
        finally:
            sys.stdout.flush()  # here, as at Python's own end a closed pipe is a complaint
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except SaidElsewhere:
        return 1
    except BrokenPipeError:
        if debug:
            traceback.print_exc()
        drop_output()
        return PIPE_CLOSED
    except (UserError, OSError, MemoryError, RuntimeError) as error:
        text = message(error)
        if text is None:
            raise
        if debug:
            traceback.print_exc()
        print(f"error: {text}", file=sys.stderr)
        return 1


def exit_now(status: int) -> NoReturn:
    """Exit after all that is registered for the end; Python's own end would go on to take torch apart for a second."""
    if not starting.is_script:
        sys.exit(status)
    with contextlib.suppress(KeyboardInterrupt):
        threading._shutdown()  # type: ignore[attr-defined]  # as Python's own end does: waits for threads and pools
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def drop_output() -> None:
    """What still waits for a pipe that is closed goes nowhere, or Python would complain of it at its end."""
    with contextlib.suppress(OSError):  # not every stdout is a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def message(error: Exception) -> str | None:
    """What a user is told; None for an error of ours. PyTorch, which is not imported here, says much in RuntimeErrors.

    Of an error that a loader process passed on, without the traceback that torch puts before it.
    """
    text = str(error).strip()
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError) or "can't allocate memory" in text:
        return f"{first_line(error)} Lower BATCH_SIZE and raise GRADIENT_ACCUMULATION_STEPS by the same factor"
    if text.startswith("DataLoader worker"):
        return f"{first_line(error)} A system without memory kills processes: lower NUM_WORKERS or BATCH_SIZE"
    if isinstance(error, RuntimeError):
        return None
    return text.splitlines()[-1].partition(": ")[2] if text.startswith("Caught ") else text


def first_line(error: BaseException) -> str:
    """The first line of the error's text, its name where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:LONGEST]


def reason_of(error: BaseException) -> str:
    """The whole of the error's text in one line, its name where it has none."""
    return " ".join(str(error).split())[:LONGEST] or type(error).__name__
