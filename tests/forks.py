"""train.py in processes that can be stopped and killed, without the seconds that starting Python takes for each.

    with Forks() as forks:
        process = forks.start(flags, folder)

`python tests/forks.py` imports train.py and forks a child for each line it reads: flags, folder, files to print to.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Forks:
    """Runs of train.py, one after the other."""

    def __enter__(self) -> "Forks":
        command, environment = [sys.executable, __file__], {**os.environ, "PYTHONPATH": str(ROOT)}
        self.server = subprocess.Popen(  # without buffers, or select() would not see what they hold
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment
        )
        return self

    def __exit__(self, *_) -> None:
        self.server.stdin.close()
        self.server.wait(60)
        self.server.stdout.close()

    def start(self, flags: list[str], folder: Path, screen: str | None = None) -> "Fork":
        """`screen` is the terminal that its errors go to."""
        out, err = folder / "printed.txt", screen or folder / "errors.txt"
        self.server.stdin.write(json.dumps([flags, str(folder), str(out), str(err)]).encode() + b"\n")
        return Fork(self.server.stdout, out, err)


class Fork:
    """One of them, as far as it is like a Popen."""

    def __init__(self, replies, out: Path, err: Path):
        self.replies, self.out, self.err = replies, out, err
        self.returncode: int | None = None
        self.pid = int(replies.readline())

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self.replies], [], [], 0)[0]:
            self.returncode = int(self.replies.readline())
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float = 120) -> int:
        self.wait_until(lambda: self.poll() is not None, timeout)
        return self.returncode

    def signal_when(self, reached: Callable[[], bool], number: int) -> None:
        """Send the signal as soon as reached() holds."""
        self.wait_until(lambda: reached() or self.poll() is not None)
        assert self.returncode is None, self.printed()
        self.send_signal(number)

    def wait_until(self, reached: Callable[[], bool], timeout: float = 120) -> None:
        limit = time.monotonic() + timeout
        while not reached():
            if time.monotonic() > limit:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"it never came to that: {self.printed()}")
            time.sleep(0.002)

    def printed(self) -> tuple[str, str]:
        """What it said on stdout and stderr."""
        return self.out.read_text(), self.err.read_text()


def serve() -> None:
    """A reply with the child's number when it starts, another with its exit status."""
    import train  # so that children have it
    from basics.errors import run_script

    for line in sys.stdin:
        flags, folder, *files = json.loads(line)
        child = os.fork()
        if child == 0:
            os.chdir(folder)
            for number, path in enumerate(files, 1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            sys.argv = ["train.py", *flags]
            run_script(train.main)  # ends this process
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
