"""What a captioner costs: parameters, bytes on disk, pictures a second, peak memory.

    costs, setup = measure_costs(comparison.outcomes, pictures, batch_size=32)  # one dict a side, and how it was done

Speed is measured in turn in this process, peak memory in a process of its own for each side, `python -m scoring.costs
--measure JOB` with a JSON file that names captioner, options and pictures: two models in one process cannot be told
apart.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from basics.devices import autocast
from basics.errors import UserError, run_script
from basics.timing import in_turn, processor, rates, run_python
from captioner.any_captioner import AnyCaptioner, load_any
from captioner.places import locate, members
from networks.decoding_options import DecodingOptions
from networks.encoder import prepare_pixels
from scoring.comparison import Outcome
from scoring.evaluation import caption_all
from sources.images import find_pictures, load_image
from sources.pictures import Pictures, spread
from sources.shards.picture import Picture

ROOT = Path(__file__).parents[1]
MIN_TIMED = 64  # pictures whose captioning is timed, or one batch if that is more
REPEATS = 3
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt")  # a folder's weights are those of the first that it has


def measure_costs(outcomes: list[Outcome], pictures: Pictures, batch_size: int) -> tuple[list[dict], dict]:
    """What each side costs, and what that was measured on."""
    numbers = spread(max(MIN_TIMED, batch_size), len(pictures.paths))
    paths = [pictures.paths[i] for i in numbers]
    print(f"measuring    pictures a second, {REPEATS} times {len(paths)} pictures", flush=True)
    speeds = captioning_speeds(outcomes, paths, batch_size)
    costs = [costs_of(each, speed, paths, batch_size) for each, speed in zip(outcomes, speeds)]
    device = outcomes[0].captioner.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    setup = {"device": str(device), "device_name": name, "threads": torch.get_num_threads()}
    return costs, setup | {"pictures": len(paths), "batch_size": batch_size, "repeats": REPEATS}


def costs_of(each: Outcome, speed: list[float], paths: list[Picture], batch_size: int) -> dict:
    print(f"measuring    peak memory of {each.name}, in a process of its own", flush=True)
    return {
        "parameters": each.captioner.parameters,
        "weights_bytes": weights_on_disk(each.captioner.path),
        "pictures_per_second": speed,
        "peak_memory_bytes": peak_of_own_process(each, paths, batch_size),
    }


def captioning_speeds(outcomes: list[Outcome], paths: list[Picture], batch_size: int) -> list[list[float]]:
    """Pictures a second of each side in each repeat: encoder and decoding of prepared pixels, A and B in turn."""

    def prepare(each: Outcome) -> Callable[[], None]:
        pixels = prepared_pixels(each.captioner, paths)
        return lambda: caption_subset(
            each.captioner, each.options, each.precision, lambda numbers: pixels[numbers], len(paths), batch_size
        )

    works = {each.name: prepare(each) for each in outcomes}
    seconds = in_turn(works, REPEATS)  # captions are read back to the CPU, so a GPU has finished when they are there
    return [rates(len(paths), seconds[each.name]) for each in outcomes]


def prepared_pixels(captioner: AnyCaptioner, paths: list[Picture]) -> Tensor:
    return prepare_pixels(captioner.image_processor, map(load_image, paths))


def caption_subset(
    captioner: AnyCaptioner,
    options: DecodingOptions,
    precision: str,
    read: Callable[[list[int]], Tensor],
    count: int,
    batch_size: int,
) -> None:
    with autocast(captioner.device, getattr(torch, precision)):
        caption_all(captioner, read, list(range(count)), options, batch_size)


def weights_on_disk(path: str) -> int:
    """Bytes of the files that hold the weights, of all members of an ensemble."""
    total = 0
    for place in map(locate, members(path)):
        files = [place] if place.is_file() else []
        for suffix in WEIGHT_SUFFIXES:
            files = files or list(place.glob(f"*{suffix}"))
        total += sum(file.stat().st_size for file in files)
    return total


def peak_of_own_process(each: Outcome, paths: list[Picture], batch_size: int) -> int | None:
    """Bytes at the peak of a process that does nothing but load the side and caption; None where that is not known."""
    job = {
        "path": each.captioner.path,
        "device": str(each.captioner.device),
        "precision": each.precision,
        "options": asdict(each.options),
        "pictures": [str(path) for path in paths],
        "batch_size": batch_size,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "job.json"
        file.write_text(json.dumps(job), encoding="utf-8")
        try:
            result = run_python("the process", "-m", "scoring.costs", "--measure", str(file), module_path=ROOT)
        except UserError as error:  # out of memory, say: no reason to lose the captions of a whole split
            print(f"warning: the memory of {each.name} is not measured: {error}", file=sys.stderr)
            return None
    return json.loads(result.stdout.splitlines()[-1])["peak_memory_bytes"]


def measure(job: dict) -> int | None:
    """In the process of its own: load, caption, and the peak in bytes."""
    captioner, paths = load_any(job["path"], torch.device(job["device"])), find_pictures(job["pictures"])

    def read(numbers: list[int]) -> Tensor:
        return prepared_pixels(captioner, [paths[i] for i in numbers])

    options = DecodingOptions(**job["options"])
    caption_subset(captioner, options, job["precision"], read, len(paths), job["batch_size"])
    on_gpu = captioner.device.type == "cuda"
    return torch.cuda.max_memory_allocated(captioner.device) if on_gpu else peak_resident_set()


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


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m scoring.costs", description="For people: python compare.py A B.")
    parser.add_argument("--measure", metavar="JOB", required=True, help="print the peak memory of the job in this file")
    job = json.loads(Path(parser.parse_args(argv).measure).read_text(encoding="utf-8"))
    print(json.dumps({"peak_memory_bytes": measure(job)}))


if __name__ == "__main__":
    run_script(main)
