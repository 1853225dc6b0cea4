"""What torchrun or `accelerate launch` says in the environment: how many processes there are, and which is this."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """The part of the work that is this process's: the `index`-th of `count`, from 0."""

    index: int = 0
    count: int = 1


ALL = Share()


@dataclass(frozen=True)
class Launch:
    """This process among all, and among those of its machine; numbers are from 0."""

    index: int = 0
    count: int = 1
    index_here: int = 0
    count_here: int = 1
    restarts: int = 0  # how often torchrun has started them anew
    most_restarts: int = 0

    @property
    def several(self) -> bool:
        return self.count > 1

    @property
    def command(self) -> str:
        """What starts as many again, before the script's name."""
        machines = f"--nnodes {self.count // self.count_here} --rdzv-backend c10d --rdzv-endpoint HOST:PORT "
        again = f" --max-restarts {self.most_restarts}" if self.most_restarts else ""
        several = f"{machines * (self.count > self.count_here)}--nproc-per-node {self.count_here}{again}"
        return f"torchrun {several}" if self.several else "python"

    @property
    def speaks(self) -> bool:
        """Whether this is the one that prints and draws bars for all."""
        return self.index == 0


def launched() -> Launch:
    def number(name: str, otherwise: int) -> int:
        found = os.environ.get(name, "")
        return int(found) if found.isdigit() else otherwise

    count = max(1, number("WORLD_SIZE", 1))
    return Launch(
        number("RANK", 0),
        count,
        number("LOCAL_RANK", 0),
        number("LOCAL_WORLD_SIZE", count),
        number("TORCHELASTIC_RESTART_COUNT", 0),
        number("TORCHELASTIC_MAX_RESTARTS", 0),
    )
