"""A classifier that export.py wrote, in use without PyTorch.

    classifier = open_onnx_classifier("exported/")                    # onnxruntime, on the CPU
    classifier.classify_images([load_image("photo.jpg")], top_k=3)    # [[("cat", 0.93), ...]], likeliest first

Every exported classifier has a copy of this file and of what it imports: neither torch nor transformers may be among
that. B pictures, C classes.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from basics.stored import check, json_of
from captioner.exported_parts import (
    PREPROCESSING,
    PartFunction,
    blank_pixels,
    check_exported,
    largest,
    log_softmax,
    open_session,
    opening,
    pixels_of,
    run_session,
)

ONNX_MODEL = "model.onnx"
CONFIG = {"task": str, "classes": [str], "int8_arithmetic?": [str], "preprocessing": PREPROCESSING}


class ExportedClassifier:
    """An exported folder in use: RGB pictures -> classes of each; open_onnx_classifier() makes one.

    network: pixels (B, 3, H, W) -> [logits (B, C)].
    """

    def __init__(self, folder: Path, network: PartFunction):
        config = json_of(folder / "config.json")
        check(config, CONFIG, "config.json")
        self.network = network
        self.classes: list[str] = config["classes"]
        self.preprocessing: dict = config["preprocessing"]

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Prepared pixels (B, 3, H, W) -> (B, C)."""
        return self.network(pixels)[0]

    def classify_images(self, images: Iterable[Image.Image], top_k: int = 1) -> list[list[tuple[str, float]]]:
        """RGB pictures -> the classes of each with their probabilities, likeliest first."""
        logits = self.logits(np.stack([pixels_of(image, self.preprocessing) for image in images]))
        probabilities = np.exp(log_softmax(logits))
        best = largest(probabilities, min(top_k, len(self.classes)))
        return [
            [(self.classes[number], float(row[number])) for number in numbers]
            for numbers, row in zip(best, probabilities)
        ]


def open_onnx_classifier(folder: Path | str) -> ExportedClassifier:
    """What export.py --format onnx wrote of a classifier, on the CPU. Raises UserError."""
    folder = Path(folder)
    check_exported(folder, ["config.json", ONNX_MODEL], "classify")
    with opening(folder):
        eight_bit = bool(json_of(folder / "config.json").get("int8_arithmetic"))
        network = partial(run_session, open_session(folder / ONNX_MODEL, eight_bit))
        classifier = ExportedClassifier(folder, network)
        shape = classifier.logits(blank_pixels(classifier.preprocessing)).shape  # or it fails at work
        if shape != (1, len(classifier.classes)):
            raise ValueError(f"{ONNX_MODEL} gives {list(shape)} numbers for {len(classifier.classes)} classes")
    return classifier
