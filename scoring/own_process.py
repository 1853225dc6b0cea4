"""Peak memory of a piece of work in a process of its own: two models in one process cannot be told apart.

    peak_of_process("small", "scoring.costs", job)          # runs `python -m scoring.costs --measure JOB`
    print_measured("scoring.costs", measure, argv)          # what that does: measure(job) -> bytes

Imports no torch: not every process that is measured needs it.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from basics.errors import UserError
from basics.timing import run_python

ROOT = Path(__file__).parents[1]


def peak_of_process(name: str, module: str, job: dict) -> int | None:
    """Bytes at its peak; None where that is not known. name is for messages."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "job.json"
        file.write_text(json.dumps(job), encoding="utf-8")
        try:
            result = run_python("the process", "-m", module, "--measure", str(file), module_path=ROOT)
        except UserError as error:  # out of memory, say: no reason to lose the answers to a whole split
            print(f"warning: the memory of {name} is not measured: {error}", file=sys.stderr)
            return None
    return json.loads(result.stdout.splitlines()[-1])["peak_memory_bytes"]


def print_measured(module: str, measure: Callable[[dict], int | None], argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description="For people: python compare.py A B.")
    parser.add_argument("--measure", metavar="JOB", required=True, help="print the peak memory of the job in this file")
    job = json.loads(Path(parser.parse_args(argv).measure).read_text(encoding="utf-8"))
    print(json.dumps({"peak_memory_bytes": measure(job)}))


def peak_resident_set() -> int | None:
    """Bytes. Not ru_maxrss on Linux: a new process starts with that of the process that started it."""
    try:
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        pass
    try:
        import resource  # not on Windows
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
