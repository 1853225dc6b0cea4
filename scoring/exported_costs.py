"""An exported classifier, ready to be measured, and its peak memory in a process without torch.

    runnable = onnx_runnable("small", folder, pixels, files, {"parameters": ...})

The process is `python -m scoring.exported_costs --measure JOB` (own_process.py).
"""

from pathlib import Path
from typing import Any

import numpy as np

from basics.errors import run_script
from basics.stored import json_of
from captioner.exported_parts import pixels_of
from classifier.exported import ONNX_MODEL, open_onnx_classifier
from scoring.own_process import peak_of_process, peak_resident_set, print_measured
from scoring.runnable import BATCH, Runnable
from sources.images import find_pictures, load_image
from sources.shards.picture import Picture


def onnx_runnable(group: str, folder: Path, pixels: Any, files: list[Picture], known: dict[str, Any]) -> Runnable:
    """known: what of the costs is that of the model in any form."""
    classifier, config = open_onnx_classifier(folder), json_of(folder / "config.json")
    weights_alone = config["weights"] == "int8" and not config.get("int8_arithmetic")
    form = f"ONNX {config['weights']}" + " weights alone" * weights_alone
    job = {"path": str(folder), "pictures": [str(file) for file in files]}
    return Runnable(
        group,
        form,
        {**known, "weights_bytes": (folder / ONNX_MODEL).stat().st_size},
        pixels,
        logits=lambda pixels: classifier.logits(pixels.numpy()),
        peak=lambda: peak_of_process(f"{group}, {form}", "scoring.exported_costs", job),
    )


def measure_exported(job: dict) -> int | None:
    """In the process of its own: open, classify a batch, and the peak in bytes."""
    classifier, pictures = open_onnx_classifier(job["path"]), find_pictures(job["pictures"])
    rows = [pixels_of(load_image(picture), classifier.preprocessing) for picture in pictures]
    classifier.logits(np.stack((rows * BATCH)[:BATCH]))
    return peak_resident_set()


def main(argv: list[str]) -> None:
    print_measured("scoring.exported_costs", measure_exported, argv)


if __name__ == "__main__":
    run_script(main)
