"""What a classifier costs: parameters, bytes, arithmetic, latency of one picture, pictures a second, peak memory.

    rows, setup = measure_label_costs({"small": "small/best"}, pictures, device)
    rows[0]["latency_ms"]      # of each call with one picture; a row for each group and form, PyTorch float32 first

A form is how the model is run; with an Exporter there are those that it makes too, and the accuracy of each. Time is
that of the model alone, on prepared pixels, all groups and forms in turn; peak memory is that of a process of its own,
`python -m scoring.label_costs --measure JOB` (own_process.py).
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from basics.errors import run_script
from basics.timing import in_turn, rates
from classifier.folder import Classifier, load_classifier
from networks.classifier import ImageClassifier
from networks.parameters import count_parameters
from scoring.costs import REPEATS, peak_so_far, prepared_pixels, setup_of, weights_on_disk
from scoring.exported_costs import onnx_runnable
from scoring.label_evaluation import label_numbers
from scoring.own_process import peak_of_process, print_measured
from scoring.runnable import BATCH, Runnable
from sources.images import find_pictures
from sources.pictures import Pictures, spread
from sources.shards.picture import Picture

Exporter = Callable[[Classifier, list[Picture], Path], list[Path]]  # writes its exports to ONNX -> their folders
CALLS, ROUNDS, WARM = 100, 4, 5  # with one picture: all that are timed, in so many turns, after so many that are not
PYTORCH = "PyTorch float32"


def measure_label_costs(
    paths: dict[str, str], pictures: Pictures, device: torch.device, export: Exporter | None = None
) -> tuple[list[dict], dict]:
    """A row for each group and form, by the path of one of its classifiers, and what that was measured on."""
    with tempfile.TemporaryDirectory() as work:
        runnables = []
        for number, (group, path) in enumerate(paths.items()):
            (folder := Path(work) / str(number)).mkdir()
            runnables += forms_of(group, path, pictures, device, folder, export)
        print(f"measuring    latency of 1 picture, {CALLS} times, and {REPEATS} times {BATCH} at once", flush=True)
        latency = latencies({each.name: each.one for each in runnables})
        seconds = in_turn({each.name: each.many for each in runnables}, REPEATS)
        rows = [costs_of_form(each, latency[each.name], rates(BATCH, seconds[each.name])) for each in runnables]
    return rows, setup_of(device) | {"batch_size": BATCH, "calls": CALLS, "repeats": REPEATS}


def costs_of_form(each: Runnable, latency: list[float], speeds: list[float]) -> dict:
    print(f"measuring    peak memory of {each.name}, in a process of its own", flush=True)
    measured = {"latency_ms": latency, "pictures_per_second": speeds, "peak_memory_bytes": each.peak()}
    return {"group": each.group, "form": each.form, **each.costs, **measured}


def forms_of(
    group: str, path: str, pictures: Pictures, device: torch.device, work: Path, export: Exporter | None
) -> list[Runnable]:
    """PyTorch's, and those of exports, which compute on the CPU."""
    files = [pictures.paths[i] for i in spread(BATCH, len(pictures.paths))]
    classifier = load_classifier(path, device)
    pixels = batch_of(classifier, files)
    known = {
        "parameters": count_parameters(classifier.model),
        "flops": picture_flops(classifier.model, pixels[:1].to(device)),
    }
    exports = export(load_classifier(path), files, work) if export else []
    classifier.make_fast(torch.float32)
    job = {"path": path, "device": str(device), "pictures": [str(file) for file in files]}
    pytorch = Runnable(
        group,
        PYTORCH,
        {**known, "weights_bytes": weights_on_disk(path)},
        pixels.to(device),
        logits=lambda pixels: logits_of(classifier, pixels),
        peak=lambda: peak_of_process(f"{group}, {PYTORCH}", "scoring.label_costs", job),
    )
    runnables = [pytorch, *(onnx_runnable(group, folder, pixels, files, known) for folder in exports)]
    if exports:
        add_accuracies(runnables, classifier, pictures)
    return runnables


def add_accuracies(runnables: list[Runnable], classifier: Classifier, pictures: Pictures) -> None:
    """top-1 of each form on the pictures: 8 bits may cost some of it."""
    print(f"measuring    top-1 of {runnables[0].group} in each form", flush=True)
    labels, right = label_numbers(pictures, classifier.classes), np.zeros(len(runnables))
    for start in range(0, len(labels), BATCH):
        pixels = prepared_pixels(classifier, pictures.paths[start : start + BATCH])
        for place, each in enumerate(runnables):
            answers = np.asarray(each.logits(pixels.to(each.pixels.device))).argmax(axis=1)
            right[place] += (answers == labels[start : start + BATCH]).sum()
    for each, count in zip(runnables, right):
        each.costs["top-1"] = float(count / len(labels))


def batch_of(classifier: Classifier, files: list[Picture]) -> Tensor:
    """BATCH prepared pictures, the same ones again where there are fewer."""
    pixels = prepared_pixels(classifier, files)
    return pixels[torch.arange(BATCH) % len(pixels)]


@torch.inference_mode()
def logits_of(classifier: Classifier, pixels: Tensor) -> Tensor:
    logits: Tensor = classifier.model(pixels)
    return logits.cpu()  # a GPU has finished when they are there


def picture_flops(model: ImageClassifier, pixels: Tensor) -> int:
    """Of matrix products and convolutions, a multiplication and its addition counted as two."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(pixels)  # the fused attention of CPUs would not be counted
    return counter.get_total_flops()


def latencies(works: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Milliseconds of each of CALLS calls of each, in ROUNDS turns: a busy machine is busy for all of them."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            seconds = [seconds_of_call(work) for _ in range(WARM + CALLS // ROUNDS)]
            found[name] += [1000 * value for value in seconds[WARM:]]
    return found


def seconds_of_call(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure_form(job: dict) -> int | None:
    """In the process of its own: load, classify a batch, and the peak in bytes."""
    device = torch.device(job["device"])
    classifier = load_classifier(job["path"], device)
    classifier.make_fast(torch.float32)
    logits_of(classifier, batch_of(classifier, find_pictures(job["pictures"])).to(device))
    return peak_so_far(device)


def main(argv: list[str]) -> None:
    print_measured("scoring.label_costs", measure_form, argv)


if __name__ == "__main__":
    run_script(main)
