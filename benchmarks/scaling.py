"""Peak memory and time against the size of a dataset, on one machine: a table and a plot.

    python -m benchmarks.scaling --raw-dir FLICKR8K --plot scaling.png
    python -m benchmarks.scaling --raw-dir FLICKR8K --times 1 2 --captions 50000 --steps 10         # a shorter one

1. The dataset --times as large by repetition (raw_data.py): what prepare_dataset.py does, then --steps training steps
   by train.py's loop from a feature cache.
2. --captions on the pictures of the dataset itself: tokenizer training alone, and what prepare_dataset.py does.

Every measurement is a process of its own; its peak is what the system says (ru_maxrss), to which mapped parts of the
feature cache count; "own" is the largest after a step without them. Seconds are without imports, a step is the median.
The cache holds random numbers in the form of a small ViT's tokens (50 of width 384, fp16) and has just been written,
so it lies in the system's cache where that is large enough. Runs on Linux and macOS.
"""

import io
import json
import sys
import tempfile
from pathlib import Path

from basics.errors import run_script
from basics.files import write_atomically
from basics.timing import number, run_python
from benchmarks.side_by_side import ROOT, command, make_parser, markdown, report

SIZES = {
    "times": "times",
    "pictures": "pictures",
    "captions": "captions",
    "prepare_seconds": "prepare, s",
    "prepare_peak": "peak, MiB",
    "set_up_seconds": "training: set-up, s",
    "step_ms": "a step, ms",
    "train_peak": "peak, MiB",
    "train_own": "own, MiB",
}
CAPTIONS = {
    "captions": "captions",
    "tokenizer_seconds": "tokenizer, s",
    "tokenizer_peak": "peak, MiB",
    "prepare_seconds": "prepare, s",
    "prepare_peak": "peak, MiB",
}


def measure(name: str, folder: Path, parts: str = "benchmarks.scaling_parts", **values) -> dict:
    """A part in a new process. Raises UserError with its last words where it fails.

    This process stays small itself: a new one's peak starts at that of the one it comes from.
    """
    values_of_part = json.dumps({"folder": str(folder)} | values)
    result = run_python(name, "-m", parts, name, values_of_part, cwd=ROOT)
    values.pop("flags", None)  # long, and the same for all
    print(f"{name:<12} {values or ''} {result.stdout.splitlines()[-1]}", file=sys.stderr)
    return json.loads(result.stdout.splitlines()[-1])


def measure_size(raw_dir: str, times: int, steps: int, work_dir: str | None) -> dict:
    with tempfile.TemporaryDirectory(dir=work_dir) as name:
        folder = Path(name)
        measure("write", folder, raw_dir=raw_dir, times=times)
        return {"times": times} | measure("prepare", folder) | measure("train", folder, steps=steps)


def measure_captions(raw_dir: str, captions: int, work_dir: str | None) -> dict:
    with tempfile.TemporaryDirectory(dir=work_dir) as name:
        folder = Path(name)
        measure("write", folder, raw_dir=raw_dir, captions=captions)
        return measure("tokenizer", folder) | measure("prepare", folder)


def plot(path: Path, sizes: list[dict], captions: list[dict], steps: int) -> None:
    """Time above, peak memory below."""
    from matplotlib.figure import Figure  # without pyplot: no display, no global state
    from matplotlib.ticker import MaxNLocator

    steps_label = f"{steps} steps"
    sizes = [row | {"steps_seconds": row["step_ms"] * steps / 1e3} for row in sizes]
    panels = [
        ("prepare_dataset.py", sizes, "pictures", {"": "prepare_seconds"}, {"": "prepare_peak"}),
        (
            "training from a feature cache",
            sizes,
            "pictures",
            {"set-up": "set_up_seconds", steps_label: "steps_seconds"},
            {"with mapped features": "train_peak", "own": "train_own"},
        ),
        (
            "captions on the same pictures",
            captions,
            "captions",
            {"tokenizer": "tokenizer_seconds", "prepare_dataset.py": "prepare_seconds"},
            {"tokenizer": "tokenizer_peak", "prepare_dataset.py": "prepare_peak"},
        ),
    ]
    figure = Figure(figsize=(12, 6.5), dpi=120, layout="constrained")
    for (above, below), (title, rows, x, seconds, memory) in zip(figure.subplots(2, 3).T, panels):
        for axes, lines, unit in ((above, seconds, "seconds"), (below, memory, "peak memory, MiB")):
            for label, key in lines.items():
                axes.plot([row[x] for row in rows], [row[key] for row in rows], marker="o", label=label)
            top = 1.1 * max(row[key] for row in rows for key in lines.values())
            axes.set(xlabel=x, ylabel=unit, xlim=(0, None), ylim=(0, top))
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            if len(lines) > 1:
                axes.legend(frameon=False)
        above.set_title(title)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write_atomically(path, content.getvalue())


def as_table(columns: dict[str, str], rows: list[dict]) -> str:
    cells = [[f"{row[key]:,}" if isinstance(row[key], int) else number(row[key]) for key in columns] for row in rows]
    return markdown(list(columns.values()), cells)


def main(argv: list[str]) -> None:
    parser = make_parser("scaling", __doc__, repeats=None)
    parser.add_argument("--raw-dir", required=True, help="captions and pictures in any form that train.py reads")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16], help="how often the dataset is repeated")
    parser.add_argument("--captions", type=int, nargs="+", default=[160_000, 600_000])
    parser.add_argument("--steps", type=int, default=40, help="training steps at each size")
    parser.add_argument("--plot", help="write the plot to this PNG file")
    parser.add_argument("--work-dir", help="folder for temporary files, a cache of 4 GiB for 16 x Flickr8k among them")
    arguments = parser.parse_args(argv)
    raw_dir = str(Path(arguments.raw_dir).expanduser().resolve())
    sizes = [measure_size(raw_dir, times, arguments.steps, arguments.work_dir) for times in arguments.times]
    captions = [measure_captions(raw_dir, count, arguments.work_dir) for count in arguments.captions]
    if arguments.plot:
        plot(Path(arguments.plot), sizes, captions, arguments.steps)
    text = f"{as_table(SIZES, sizes)}\n\n{as_table(CAPTIONS, captions)}"
    report([*sizes, *captions], text, command("scaling", argv), arguments.output)


if __name__ == "__main__":
    run_script(main)
