"""Runs of train.py by torchrun, seen from outside: speed, memory, seconds to the first step.

runs = Launcher(folder, flags)
runs.train(2, "a")["captions_per_second"]       # two processes of one thread each, to the end of the run
runs.first_step(2, "b", checkpoint)             # seconds until a run that goes on has done one step
"""

import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from basics.errors import UserError
from benchmarks.side_by_side import ROOT

IMPORTS = """
import train
if train.launched().several:
    import training.several_processes
print("imported", flush=True)
"""
PAUSE = 0.05  # seconds between looks at a process
SAMPLE = 1.0  # seconds between looks at its memory, which the system walks through for that
EPOCHS = 2  # one warms up, one counts
TRAINED = re.compile(r"^model +([\d,]+) parameters trained", re.MULTILINE)


class Launcher:
    """Starts train.py by torchrun in a folder that holds its data, and looks at it from outside."""

    def __init__(self, folder: Path, flags: list[str]):
        self.folder, self.flags = folder, flags

    def run_folder(self, name: str) -> Path:
        return self.folder / "checkpoints" / name

    def train(self, count: int, name: str, **changes: object) -> dict[str, float | None]:
        """A run to its end -> its speed in the last epoch, memory during it, megabytes of gradients a step."""
        log, memory = self.run_folder(name) / "log.jsonl", []

        def look() -> bool:
            if len(lines(log)) == EPOCHS - 1 and (found := memory_of(children(process.pid))):
                memory.append(found)
                time.sleep(SAMPLE)
            return False

        with self.started(count, self.train_flags(name, changes)) as process:
            self.until(process, look)
        resident, shared_once = map(statistics.median, zip(*memory)) if memory else (None, None)
        trained = TRAINED.search("\n".join(lines(self.printed)))
        return {
            "captions_per_second": json.loads(lines(log)[-1])["examples_per_second"],
            "resident": resident,
            "shared_once": shared_once,
            "gradient": 4e-6 * int(trained[1].replace(",", "")) if trained else None,
        }

    def first_step(self, count: int, name: str, checkpoint: Path) -> float:
        """Seconds from the start of torchrun until a run that goes on has done one step, and writes what it has."""
        changes = {"RESUME_CHECKPOINT_PATH": checkpoint, "CHECKPOINT_EVERY_STEPS": 1, "NUM_EPOCHS": 1}
        begun = time.perf_counter()
        with self.started(count, self.train_flags(name, changes)) as process:
            self.until(process, lambda: any(self.run_folder(name).glob("checkpoint_step_*")))
            return time.perf_counter() - begun

    def imports(self, count: int) -> float:
        """Seconds from the start of torchrun until all processes have what train.py imports."""
        begun = time.perf_counter()
        with self.started(count, ["--no-python", sys.executable, "-c", IMPORTS]) as process:
            self.until(process, lambda: lines(self.printed).count("imported") == count)
            return time.perf_counter() - begun

    def train_flags(self, name: str, changes: dict) -> list[str]:
        named = {"RUN_NAME": name, "CHECKPOINT_DIR": self.folder / "checkpoints", "NUM_EPOCHS": EPOCHS} | changes
        return ["train.py", *self.flags, *(f"--{key}={value}" for key, value in named.items())]

    @property
    def printed(self) -> Path:
        return self.folder / "printed.txt"

    @contextlib.contextmanager
    def started(self, count: int, arguments: list[str]) -> Iterator[subprocess.Popen]:
        """It does not outlive the block."""
        process = start(count, arguments, self.printed)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait()

    def until(self, process: subprocess.Popen, reached: Callable[[], bool]) -> None:
        """Wait for that, or for the end. Raises UserError where it failed."""
        while process.poll() is None and not reached():
            time.sleep(PAUSE)
        if process.poll():
            errors = [line for line in lines(self.printed) if "error: " in line] or lines(self.printed) or ["torchrun"]
            raise UserError(errors[0].removeprefix("error: "))


def start(count: int, arguments: list[str], printed: Path) -> subprocess.Popen:
    """torchrun with so many processes of one thread."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    with open(printed, "w", encoding="utf-8") as file:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([*launch, *arguments], cwd=ROOT, env=environment, stdout=file, stderr=file)


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []


def children(pid: int) -> list[int]:
    """The processes that one has started, none where the system does not say."""
    with contextlib.suppress(OSError):  # it has just ended
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        return [int(child) for task in tasks for child in task.read_text().split()]
    return []


def memory_of(pids: list[int]) -> tuple[float, float] | None:
    """MiB over processes: each one's resident pages, and the same with those that several share counted once."""
    try:
        rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    except OSError:
        return None
    resident, shared_once = (
        sum(int(rollup.partition(f"\n{name}:")[2].split()[0]) for rollup in rollups) / 1024 for name in ("Rss", "Pss")
    )
    return (resident, shared_once) if pids else None
