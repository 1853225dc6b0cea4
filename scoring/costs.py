"""What a captioner costs: parameters, bytes on disk, pictures a second, peak memory.

    costs, setup = measure_costs(comparison.outcomes, pictures, batch_size=32)  # one dict a side, and how it was done

Speed is measured in turn in this process, peak memory in a process of its own for each side (own_process.py), whose job
names captioner, options and pictures.
"""

from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor

from basics.devices import autocast
from basics.errors import run_script
from basics.timing import in_turn, processor, rates
from captioner.any_captioner import AnyCaptioner, load_any
from captioner.places import locate, members
from classifier.folder import Classifier
from networks.decoding_options import DecodingOptions
from networks.encoder import prepare_pixels
from scoring.comparison import Outcome
from scoring.evaluation import caption_all
from scoring.own_process import peak_of_process, peak_resident_set, print_measured
from sources.images import find_pictures, load_image
from sources.pictures import Pictures, spread
from sources.shards.picture import Picture

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
    setup = setup_of(outcomes[0].captioner.device)
    return costs, setup | {"pictures": len(paths), "batch_size": batch_size, "repeats": REPEATS}


def setup_of(device: torch.device) -> dict:
    """What it is measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {"device": str(device), "device_name": name, "threads": torch.get_num_threads()}


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


def prepared_pixels(model: AnyCaptioner | Classifier, paths: list[Picture]) -> Tensor:
    return prepare_pixels(model.image_processor, map(load_image, paths))


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
    return peak_of_process(each.name, "scoring.costs", job)


def measure(job: dict) -> int | None:
    """In the process of its own: load, caption, and the peak in bytes."""
    captioner, paths = load_any(job["path"], torch.device(job["device"])), find_pictures(job["pictures"])

    def read(numbers: list[int]) -> Tensor:
        return prepared_pixels(captioner, [paths[i] for i in numbers])

    options = DecodingOptions(**job["options"])
    caption_subset(captioner, options, job["precision"], read, len(paths), job["batch_size"])
    return peak_so_far(captioner.device)


def peak_so_far(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_resident_set()


def main(argv: list[str]) -> None:
    print_measured("scoring.costs", measure, argv)


if __name__ == "__main__":
    run_script(main)
