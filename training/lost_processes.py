"""When processes that train together end: the user is told once why, by whoever knows it best.

    news = News(store, index, gathered(News.who()))
    with news.told_once(): ...

A process that fails says so itself. The others only notice a connection that is closed: they are silent where somebody
has spoken, and name the one that is gone where it was killed.
"""

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from torch.distributed import Store

from basics.errors import SaidElsewhere, UserError, message
from basics.files import is_alive
from basics.launched import launched

PATIENCE = 5.0  # seconds until a process that is gone has said why, or its end is known to the system
CONNECTION = re.compile("connect|socket|peer|reset|NCCL|timed? ?out", re.IGNORECASE)  # in what torch says of a lost one
TOLD = "told"  # the name in the store under which the first one to speak leaves its number


def then() -> str:
    launch = launched()
    if launch.restarts < launch.most_restarts:
        return "torchrun starts all of them again"
    return "where there is a checkpoint, go on with --resume-checkpoint-path latest"


class News:
    """What this process knows of the others: who they are, and, through the store, whether one has told the user."""

    def __init__(self, store: Store, index: int, everyone: list[tuple[str, int]]):
        self.store, self.index, self.everyone = store, index, everyone

    @staticmethod
    def who() -> tuple[str, int]:
        """This process, as the others know it."""
        return socket.gethostname(), os.getpid()

    @contextlib.contextmanager
    def told_once(self) -> Iterator[None]:
        """Raises what is raised within, or SaidElsewhere where another process has told the user."""
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:
            of_a_connection = isinstance(error, RuntimeError) and message(error) is None
            lost = self.news(bool(CONNECTION.search(str(error)))) if of_a_connection else None
            if not self.first_to_tell():
                raise SaidElsewhere from error
            if lost is None:  # it is this process's own
                raise
            raise UserError(
                f"{lost} is gone: it crashed, or was killed, perhaps for want of memory; the others end too; {then()}"
            ) from error

    def first_to_tell(self) -> bool:
        with contextlib.suppress(RuntimeError):  # the store may be gone with its process
            return self.store.compare_set(TOLD, "", str(self.index)) == str(self.index).encode()
        return True

    def news(self, somebody_is_gone: bool) -> str | None:
        """The process that is lost, "" where one has told the user why it ended; None where nobody is missed."""
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            if self.has_been_told():
                return ""
            if gone := [place for place, who in enumerate(self.everyone) if self.is_gone(*who)]:
                return f"process {gone[0]} of {len(self.everyone)} (pid {self.everyone[gone[0]][1]})"
            time.sleep(0.1)
        elsewhere = sorted({host for host, _ in self.everyone} - {socket.gethostname()})
        return f"a process on {' or '.join(elsewhere)}" if elsewhere and somebody_is_gone else None

    def has_been_told(self) -> bool:
        with contextlib.suppress(RuntimeError):
            return self.store.check([TOLD])
        return False

    def is_gone(self, host: str, pid: int) -> bool:
        """Whether a process of this machine has ended; one that its parent has not noticed yet has, too."""
        if host != socket.gethostname():
            return False
        if not is_alive(pid):
            return True
        stat = Path(f"/proc/{pid}/stat")  # Linux has it
        return stat.is_file() and stat.read_text(errors="replace").rpartition(") ")[2].startswith("Z")
