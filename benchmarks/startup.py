"""From cold to one caption: `python inference.py photo.jpg` beside only importing torch and reading the weights.

    python -m benchmarks.startup --checkpoint BEST --picture photo.jpg
    python -m benchmarks.startup --checkpoint BEST --picture photo.jpg --profile    # and which packages take the time

Both are a new process each time; the files are in the system's cache, where the first round, which does not count, has
brought them. Here less is better: the ratio says how many times as long ours takes.
"""

import re
from collections import Counter
from functools import partial
from pathlib import Path

from basics.errors import run_script
from basics.timing import in_turn, run_python
from benchmarks.side_by_side import ROOT, Row, command, compare, make_parser

BARE = "import sys, torch; from safetensors.torch import load_file; load_file(sys.argv[1])"
IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\w+)")  # microseconds of the module itself, its package


def slowest_imports(stderr: str, count: int = 12) -> str:
    """What `python -X importtime` wrote, summed up by package."""
    seconds: Counter[str] = Counter()
    for microseconds, package in IMPORT.findall(stderr):
        seconds[package] += int(microseconds) / 1e6
    lines = [f"{spent:8.2f} s  {package}" for package, spent in seconds.most_common(count)]
    return "\n".join([f"profile      {seconds.total():.2f} s of imports (slowed by their timing), by package", *lines])


def main(argv: list[str]) -> None:
    parser = make_parser("startup", __doc__, repeats=7)
    parser.add_argument("--checkpoint", required=True, help="best/ folder")
    parser.add_argument("--picture", required=True)
    parser.add_argument("--profile", action="store_true", help="also print what the imports take")
    arguments = parser.parse_args(argv)
    caption = [str(ROOT / "inference.py"), arguments.picture, "--checkpoint", arguments.checkpoint, "--device", "cpu"]
    weights = str(Path(arguments.checkpoint) / "model.safetensors")
    ours, bare = partial(run_python, "inference.py", *caption), partial(run_python, "torch", "-c", BARE, weights)
    seconds = in_turn({"ours": ours, "peer": bare}, arguments.repeats)
    rows = [Row("one caption; only torch and the weights", "s", seconds["ours"], seconds["peer"])]
    notes = []
    if arguments.profile:
        notes = [slowest_imports(run_python("inference.py", "-X", "importtime", *caption).stderr)]
    compare(rows, command("startup", argv), arguments.output, notes)


if __name__ == "__main__":
    run_script(main)
