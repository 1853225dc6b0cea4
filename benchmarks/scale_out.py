"""Several processes, shards, and going on in the middle of an epoch: what each costs on this machine.

    python -m benchmarks.scale_out --raw-dir FLICKR8K --encoder FOLDER
    python -m benchmarks.scale_out --raw-dir FLICKR8K --processes 1 2 4 --batch-size 320    # any setting of train.py

1. torchrun with each number of --processes, one thread each, trains on --pictures of the dataset: the same batches,
   which they split. An epoch warms up, the next counts. With --encoder from cached features, which lie there already,
   else from pixels with a small ViT that is trained too. Memory is the sum over the processes, sampled during the epoch
   that counts: "resident" counts a shared page for each of them, "shared once" gives each its part (PSS; Linux).
2. The whole dataset as a folder and as each number of --shards, each in a process of its own: the first batch of an
   epoch, one in its middle (what resuming waits for), pictures decoded in the epoch's order, one thread. The files have
   just been written, so they lie in the system's cache where it is large enough.
3. torchrun with each number of processes goes on from a checkpoint in the middle of an epoch: seconds until its first
   optimizer step is done; and what torchrun and the imports alone take of them.

Repeats take turns. The numbers of processes are not those of the machine's cores: too many share them.
"""

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

from basics.errors import run_script
from basics.timing import median_and_range
from benchmarks.launching import Launcher
from benchmarks.scaling import measure
from benchmarks.side_by_side import command, make_parser, markdown, report

PARTS = "benchmarks.scale_out_parts"
TRAINING = {  # the decoder of presets/flickr8k.yaml, and nothing beside training that takes long
    "DATASET": "flickr8k",
    "GROUP_CAPTIONS": True,
    "BATCH_SIZE": 160,
    "DECODER_EMBED_DIM": 384,
    "DECODER_HEADS": 6,
    "DECODER_LAYERS": 3,
    "DECODER_FF_DIM": 1536,
    "DECODER_DROPOUT": 0.2,
    "PRECISION": "bf16",
    "DEVICE": "cpu",
    "VALIDATION_INTERVAL": 100,  # the last epoch is validated all the same
    "NUM_VALIDATION_CAPTIONS": 0,
    "NUM_SAMPLE_CAPTIONS": 0,
    "CHECKPOINT_EVERY_STEPS": None,
    "KEEP_LAST_N": 5,
}
SPEED = {
    "processes": "processes",
    "captions_per_second": "captions/s",
    "ratio": "times the first",
    "resident": "resident, MiB",
    "shared_once": "shared once, MiB",
    "gradient": "gradients a step, MB",
}
SHARDS = {
    "shards": "training shards",
    "first": "first batch, s",
    "middle": "middle batch, s",
    "decoded": "pictures decoded/s",
    "own": "own, MiB",
    "read_peak": "peak, MiB",
}
RESUMED = {
    "processes": "processes",
    "first_step": "to the first step, s",
    "imports": "torchrun and imports, s",
    "rest": "the rest, s",
}


def with_values(place: Path, flags: list[str], **values: object) -> list[str]:
    """train.py's flags for the data of a place; what was typed, `flags`, wins."""
    places = {"RAW_DIR": place / "raw", "DATA_DIR": place / "data"}
    return [*(f"--{key}={value}" for key, value in {**TRAINING, **places, **values}.items()), *flags]


def measure_processes(runs: Launcher, counts: list[int], repeats: int) -> list[dict]:
    """In turn; a ratio is to the first number of processes in the same repeat."""
    found = [[say("train", runs.train(count, f"train-{count}-{turn}")) for count in counts] for turn in range(repeats)]
    rows = []
    for count, results in zip(counts, zip(*found)):
        ratio = [one["captions_per_second"] / turn[0]["captions_per_second"] for one, turn in zip(results, found)]
        columns = {key: [one[key] for one in results if one[key] is not None] for key in results[0]}
        rows.append({"processes": count, **columns, "ratio": ratio})
    return rows


def measure_resuming(runs: Launcher, counts: list[int], repeats: int, steps: int) -> list[dict]:
    """From the checkpoint in the middle of a first epoch of so many steps."""
    runs.train(1, "half", CHECKPOINT_EVERY_STEPS=math.ceil(steps / 2), NUM_EPOCHS=1)
    checkpoint = min(runs.run_folder("half").glob("checkpoint_step_*.pt"))
    rows = [{"processes": count, "first_step": [], "imports": []} for count in counts]
    for turn in range(repeats):
        for row in rows:
            count = row["processes"]
            row["first_step"].append(say("resume", runs.first_step(count, f"resumed-{count}-{turn}", checkpoint)))
            row["imports"].append(say("imports", runs.imports(count)))
    return [row | {"rest": [a - b for a, b in zip(row["first_step"], row["imports"])]} for row in rows]


def measure_shards(place: Path, raw_dir: str, flags: list[str], counts: list[int], repeats: int) -> list[dict]:
    """The folder, then each number of shards, every measurement a process of its own."""
    of_folder = with_values(place, flags, RAW_DIR=raw_dir)
    measure("prepare", place, PARTS, flags=of_folder)
    readers = {0: of_folder}
    for wanted in counts:
        shards = place / f"shards-{wanted}"
        written = measure("write_shards", shards, PARTS, flags=of_folder, count=wanted)["shards"]
        changes = {"DATASET": "webdataset", "RAW_DIR": None, "SHARDS": shards, "DATA_DIR": place / f"data-{wanted}"}
        readers[written] = with_values(place, flags, **changes)
        measure("prepare", place, PARTS, flags=readers[written])
    found = [{n: measure("read", place, PARTS, flags=reader) for n, reader in readers.items()} for _ in range(repeats)]
    return [{"shards": n, **{key: [turn[n][key] for turn in found] for key in found[0][n]}} for n in readers]


def say(name: str, value: object) -> object:
    print(f"{name:<12} {json.dumps(value)}", file=sys.stderr)
    return value


def as_table(columns: dict[str, str], rows: list[dict]) -> str:
    return markdown(list(columns.values()), [[cell(row[key]) for key in columns] for row in rows])


def cell(value: int | list[float]) -> str:
    if isinstance(value, int):
        return f"{value:,}" if value else "none: a folder"
    return median_and_range(value) if value else "not known"


def parse_arguments(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = make_parser("scale_out", __doc__, repeats=3)
    parser.add_argument("--raw-dir", required=True, help="captions and pictures in any form that train.py reads")
    parser.add_argument("--encoder", help="folder of a frozen encoder, whose features are cached")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 8, 64], help="of the training pictures")
    parser.add_argument("--pictures", type=int, default=600, help="pictures trained on, a tenth of them for validation")
    parser.add_argument("--work-dir", help="folder for temporary files")
    return parser.parse_known_args(argv)


def main(argv: list[str]) -> None:
    arguments, more = parse_arguments(argv)
    raw_dir, counts, repeats = str(Path(arguments.raw_dir).resolve()), arguments.processes, arguments.repeats
    encoder = {} if arguments.encoder is None else {"ENCODER_MODEL_NAME": str(Path(arguments.encoder).resolve())}
    cached = {**encoder, "ENCODER_TRAINABLE": "none", "CACHE_FEATURES": True} if encoder else {}
    with tempfile.TemporaryDirectory(dir=arguments.work_dir) as name:
        some, whole = Path(name) / "some", Path(name) / "whole"
        flags = with_values(some, more, **cached)
        measure("write", some, PARTS, raw_dir=raw_dir, pictures=arguments.pictures)
        steps = measure("prepare", some, PARTS, flags=flags)["steps"]
        runs = Launcher(some, flags)
        resumed = measure_resuming(runs, counts, repeats, steps)  # first: it makes the cache
        speed = measure_processes(runs, counts, repeats)
        shards = measure_shards(whole, raw_dir, more, arguments.shards, repeats)
    tables = [as_table(columns, rows) for columns, rows in ((SPEED, speed), (SHARDS, shards), (RESUMED, resumed))]
    report([*speed, *shards, *resumed], "\n\n".join(tables), command("scale_out", argv), arguments.output)


if __name__ == "__main__":
    run_script(main)
