"""What a classifier costs: parameters, bytes, arithmetic, latency of one picture, pictures a second, peak memory.

    rows, setup = measure_label_costs({"small": "small/best"}, pictures, device, export=None)
    rows[0]["latency_ms"]      # of each call with one picture; a row for each group and form, PyTorch float32 first

A form is how the model is run. Time is that of the model alone, on prepared pixels, all groups and forms in turn; peak
memory is that of a process of its own (own_process.py).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

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
from scoring.own_process import peak_of_process, print_measured
from sources.images import find_pictures
from sources.pictures import Pictures, spread
from sources.shards.picture import Picture

BATCH = 64  # pictures at once whose speed is measured
CALLS, ROUNDS, WARM = 100, 4, 5  # with one picture: all that are timed, in so many turns, after so many that are not
PYTORCH = "PyTorch float32"


@dataclass
class RunnableForm:
    """A model in one form, ready to answer a batch of BATCH pictures and one of 1."""

    group: str
    name: str
    costs: dict  # what is known without running it
    many: Callable[[], object]
    one: Callable[[], object]
    peak: Callable[[], int | None]

    @property
    def key(self) -> str:
        return f"{self.group}, {self.name}"


def measure_label_costs(paths: dict[str, str], pictures: Pictures, device: torch.device) -> tuple[list[dict], dict]:
    """A row for each group, by the path of one of its classifiers, and what that was measured on."""
    files = [pictures.paths[i] for i in spread(BATCH, len(pictures.paths))]
    forms = [pytorch_form(name, path, files, device) for name, path in paths.items()]
    print(f"measuring    latency of 1 picture, {CALLS} times, and {REPEATS} times {BATCH} at once", flush=True)
    latency = latencies({form.key: form.one for form in forms})
    seconds = in_turn({form.key: form.many for form in forms}, REPEATS)
    rows = []
    for form in forms:
        print(f"measuring    peak memory of {form.key}, in a process of its own", flush=True)
        rows.append(
            {
                "group": form.group,
                "form": form.name,
                **form.costs,
                "latency_ms": latency[form.key],
                "pictures_per_second": rates(BATCH, seconds[form.key]),
                "peak_memory_bytes": form.peak(),
            }
        )
    return rows, setup_of(device) | {"batch_size": BATCH, "calls": CALLS, "repeats": REPEATS}


def pytorch_form(group: str, path: str, files: list[Picture], device: torch.device) -> RunnableForm:
    classifier = load_classifier(path, device)
    pixels = batch_of(classifier, files, device)
    known = {
        "parameters": count_parameters(classifier.model),
        "weights_bytes": weights_on_disk(path),
        "flops": picture_flops(classifier.model, pixels[:1]),
    }
    classifier.make_fast(torch.float32)
    job = {"path": path, "device": str(device), "pictures": [str(file) for file in files]}
    return RunnableForm(
        group,
        PYTORCH,
        known,
        many=lambda: logits_of(classifier, pixels),
        one=lambda: logits_of(classifier, pixels[:1]),
        peak=lambda: peak_of_process(group, "scoring.label_costs", job),
    )


def batch_of(classifier: Classifier, files: list[Picture], device: torch.device) -> Tensor:
    """BATCH prepared pictures, the same ones again where there are fewer."""
    pixels = prepared_pixels(classifier, files)
    return pixels[torch.arange(BATCH) % len(pixels)].to(device)


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


def percentile(values: list[float], share: int) -> float:
    return float(np.percentile(values, share))


def measure_form(job: dict) -> int | None:
    """In the process of its own: load, classify a batch, and the peak in bytes."""
    device = torch.device(job["device"])
    classifier = load_classifier(job["path"], device)
    classifier.make_fast(torch.float32)
    logits_of(classifier, batch_of(classifier, find_pictures(job["pictures"]), device))
    return peak_so_far(device)


def main(argv: list[str]) -> None:
    print_measured("scoring.label_costs", measure_form, argv)


if __name__ == "__main__":
    run_script(main)
