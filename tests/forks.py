"""train.py in processes that can be stopped and killed, without the seconds that starting Python takes for each.

    with Forks() as forks:
        process = forks.start(flags, folder)

    process = forks.start_several(2, flags, folder)     # that train together, as torchrun starts them

`python tests/forks.py` imports train.py and forks children for each line it reads: flags, folder, for each child its
environment and files to print to.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def new_step(folder: Path, delay: float) -> Callable[[], bool]:
    """Holds once a checkpoint is there that was not before, and `delay` seconds later."""
    before, seen = set(folder.glob("checkpoint_step_*.pt")), []

    def reached() -> bool:
        if not seen and set(folder.glob("checkpoint_step_*.pt")) - before:
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() > seen[0] + delay

    return reached


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
        return self.ask(flags, folder, [({}, folder / "printed.txt", screen or folder / "errors.txt")])[0]

    def start_several(self, count: int, flags: list[str], folder: Path, restarts: int = 0) -> list["Fork"]:
        """Each prints to files of its own. restarts: how often they were started before, of at most 10 times."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        common |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": str(restarts)}
        common |= {"TORCHELASTIC_MAX_RESTARTS": "10"}
        numbers = [{**common, "RANK": str(i), "LOCAL_RANK": str(i)} for i in range(count)]
        files = [(folder / f"printed{i}.txt", folder / f"errors{i}.txt") for i in range(count)]
        return self.ask(flags, folder, [(variables, *each) for variables, each in zip(numbers, files)])

    def ask(self, flags: list[str], folder: Path, children: list[tuple]) -> list["Fork"]:
        asked = [[variables, str(out), str(err)] for variables, out, err in children]
        self.server.stdin.write(json.dumps([flags, str(folder), asked]).encode() + b"\n")
        pids = json.loads(self.server.stdout.readline())
        replies = Replies(self.server.stdout)
        return [Fork(replies, pid, out, err) for pid, (_, out, err) in zip(pids, children)]


class Replies:
    """What the server says of children that have ended."""

    def __init__(self, stream):
        self.stream, self.returncodes = stream, {}

    def read(self) -> None:
        while select.select([self.stream], [], [], 0)[0] and (line := self.stream.readline()):
            pid, status = json.loads(line)
            self.returncodes[pid] = status


class Fork:
    """One of them, as far as it is like a Popen."""

    def __init__(self, replies: "Replies", pid: int, out: Path, err: Path):
        self.replies, self.pid, self.out, self.err = replies, pid, out, err

    @property
    def returncode(self) -> int | None:
        return self.replies.returncodes.get(self.pid)

    def poll(self) -> int | None:
        self.replies.read()
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
    """A reply with the children's numbers when they start, and one with the exit status of each."""
    from torch.distributed import TCPStore

    import train  # so that children have it
    import training.several_processes  # noqa: F401  # the same
    from basics.errors import run_script

    for line in sys.stdin:
        flags, folder, asked = json.loads(line)
        children = []
        for variables, *files in asked:
            children.append(os.fork())
            if children[-1] == 0:
                os.chdir(folder)
                os.environ |= variables
                for number, path in enumerate(files, 1):
                    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
                sys.argv = ["train.py", *flags]
                run_script(train.main)  # ends this process
        port = asked[0][0].get("MASTER_PORT")
        store = port and TCPStore("127.0.0.1", int(port), is_master=True, wait_for_workers=False)  # as torchrun has it
        print(json.dumps(children), flush=True)
        for _ in children:
            child, status = os.wait()
            print(json.dumps([child, os.waitstatus_to_exitcode(status)]), flush=True)
        del store


if __name__ == "__main__":
    serve()
