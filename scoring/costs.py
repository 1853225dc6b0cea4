"""What a captioner costs: parameters, bytes on disk, pictures a second, peak memory; and Side, any captioner compared.

    side = load_side("checkpoints/student/best", device)            # of train.py, or a folder of GIT as a teacher
    costs, setup = measure_costs(outcomes, pictures, batch_size=32)  # one dict a side, and what they were measured on

Speed is measured in turn in this process, peak memory in a process of its own for each side, `python -m scoring.costs
--measure JOB` with a JSON file that names side, options and pictures: two models in one process cannot be told apart.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from basics.errors import UserError, run_script
from basics.settings import Settings, constants
from basics.timing import in_turn, processor, rates, run_python
from evaluate import Pictures, caption_all, spread
from sources.images import load_image

ROOT = Path(__file__).parents[1]
MIN_TIMED = 64  # pictures whose captioning is timed, or one batch if that is more
REPEATS = 3
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt")  # a folder's weights are those of the first that it has


@dataclass
class Side:
    """A captioner as a comparison needs it; evaluate_pictures() takes it in a Captioner's place."""

    path: str
    model: object  # nn.Module with .device
    image_processor: object
    caption_pixels: Callable  # (pixels, DecodingOptions) -> for each picture its (text, Caption) pairs, best first
    max_seq_len: int
    settings: Settings  # for BEAM_SIZE, LENGTH_PENALTY and PRECISION
    data: Path | None  # what it was trained on; None where it does not say

    def read(self, paths: list[Path]):
        from networks.encoder import prepare_pixels

        return prepare_pixels(self.image_processor, [load_image(path) for path in paths])


def load_side(path: str, device) -> Side:
    """Anything that captions, on the device: a best/ or GIT folder, a checkpoint file, a Hub id, an ensemble.

    Raises UserError.
    """
    if folder := git_folder(path):
        return load_git_side(path, folder, device)
    from captioner.ensemble import load_captioners

    captioner = load_captioners(path, device)
    settings = constants().replace(**captioner.config["settings"])
    return Side(
        path,
        captioner.model,
        captioner.image_processor,
        captioner.caption_pixels,
        max_seq_len=captioner.model.max_seq_len,
        settings=settings,
        data=settings.data_path,
    )


def git_folder(path: str) -> Path | None:
    """Where GIT lies; None where the path names something else."""
    from distillation.teacher import locate, model_type

    try:
        folder = locate(path)
        return folder if model_type(folder) == "git" else None
    except UserError:  # a file, or something whose trouble load_captioner names
        return None


def load_git_side(path: str, folder: Path, device) -> Side:
    """GIT, which knows no settings of ours: it captions as config.py says, or as the other side does."""
    from networks.git import load_git

    parts, settings = load_git(folder), constants()
    parts.model.to(device)
    return Side(
        path,
        parts.model,
        parts.image_processor,
        parts.caption_pixels,
        max_seq_len=min(parts.model.config.max_position_embeddings, settings.MAX_SEQ_LEN),
        settings=settings,
        data=None,
    )


def measure_costs(outcomes: list, pictures: Pictures, batch_size: int) -> tuple[list[dict], dict]:
    """What each compare.Outcome's side costs, and what that was measured on."""
    import torch

    numbers = spread(max(MIN_TIMED, batch_size), len(pictures.paths))
    paths = [pictures.paths[i] for i in numbers]
    speeds = captioning_speeds(outcomes, paths, batch_size)
    costs = [
        {
            "parameters": sum(parameter.numel() for parameter in each.side.model.parameters()),
            "weights_bytes": weights_on_disk(each.side.path),
            "pictures_per_second": speed,
            "peak_memory_bytes": peak_of_own_process(each, paths, batch_size),
        }
        for each, speed in zip(outcomes, speeds)
    ]
    device = outcomes[0].side.model.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    setup = {"device": str(device), "device_name": name, "threads": torch.get_num_threads()}
    return costs, setup | {"pictures": len(paths), "batch_size": batch_size, "repeats": REPEATS}


def captioning_speeds(outcomes: list, paths: list[Path], batch_size: int) -> list[list[float]]:
    """Pictures a second of each side in each repeat: encoder and decoding of prepared pixels, A and B in turn."""

    def prepare(each) -> Callable[[], list]:
        pixels = each.side.read(paths)
        return lambda: caption_subset(
            each.side, each.options, each.precision, lambda numbers: pixels[numbers], len(paths), batch_size
        )

    works = {each.name: prepare(each) for each in outcomes}
    seconds = in_turn(works, REPEATS)  # captions are read back to the CPU, so a GPU has finished when they are there
    return [rates(len(paths), seconds[each.name]) for each in outcomes]


def caption_subset(side: Side, options, precision: str, read: Callable, count: int, batch_size: int) -> None:
    import torch

    from basics.devices import autocast

    with autocast(side.model.device, getattr(torch, precision)):
        caption_all(side, read, list(range(count)), options, batch_size)


def weights_on_disk(path: str) -> int:
    """Bytes of the files that hold the weights, of all members of an ensemble."""
    from captioner.ensemble import members
    from distillation.teacher import locate

    total = 0
    for place in map(locate, members(path)):
        files = [place] if place.is_file() else []
        for suffix in WEIGHT_SUFFIXES:
            files = files or list(place.glob(f"*{suffix}"))
        total += sum(file.stat().st_size for file in files)
    return total


def peak_of_own_process(each, paths: list[Path], batch_size: int) -> int | None:
    """Bytes at the peak of a process that does nothing but load the side and caption; None where that is not known."""
    job = {
        "path": each.side.path,
        "device": str(each.side.model.device),
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
    import torch

    from networks.search import DecodingOptions

    side, paths = load_side(job["path"], torch.device(job["device"])), [Path(path) for path in job["pictures"]]
    options = DecodingOptions(**job["options"])

    def read(numbers: list[int]):
        return side.read([paths[i] for i in numbers])

    caption_subset(side, options, job["precision"], read, len(paths), job["batch_size"])
    on_gpu = side.model.device.type == "cuda"
    return torch.cuda.max_memory_allocated(side.model.device) if on_gpu else peak_resident_set()


def peak_resident_set() -> int | None:
    """Bytes. Not ru_maxrss on Linux: a new process starts with that of the process that started it."""
    try:
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scoring.costs", description="For people: python evaluate.py --compare A B."
    )
    parser.add_argument("--measure", metavar="JOB", required=True, help="print the peak memory of the job in this file")
    job = json.loads(Path(parser.parse_args(argv).measure).read_text(encoding="utf-8"))
    print(json.dumps({"peak_memory_bytes": measure(job)}))


if __name__ == "__main__":
    run_script(main)
