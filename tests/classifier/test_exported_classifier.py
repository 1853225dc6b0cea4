"""A classifier without PyTorch: its labels and probabilities, and what its config.json may say."""

import json
import random

import numpy as np
import pytest
from attack.mutate import mutate_value, places
from colours import COLOURS, colour

from classifier.exported import ExportedClassifier

STEPS = {"filter": "bilinear", "width_first": True, "mean": [0.5] * 3, "std": [0.5] * 3, "scale": 1 / 255}
PREPROCESSING = STEPS | {"resize": {"width": 8, "height": 8}, "crop": {"width": 8, "height": 8, "rounding": "down"}}
CONFIG = {"task": "classify", "classes": COLOURS, "preprocessing": PREPROCESSING}


def brightest(pixels: np.ndarray) -> list[np.ndarray]:
    """As a network: the colours that there is most of, in the order of COLOURS."""
    return [5 * pixels.mean((2, 3))[:, ::-1]]


@pytest.mark.parametrize("top_k, labels", [(1, 1), (2, 2), (9, 3)])
def test_the_likeliest_labels_come_first_with_their_probabilities(tmp_path, top_k, labels):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    classifier = ExportedClassifier(tmp_path, brightest)
    rows = classifier.classify_images((colour(name, 20) for name in COLOURS), top_k)
    assert [row[0][0] for row in rows] == COLOURS and [len(row) for row in rows] == [labels] * 3
    probabilities = [[probability for _, probability in row] for row in rows]
    assert all(row == sorted(row, reverse=True) and row[0] > 0.99 for row in probabilities)
    assert labels < 3 or [sum(row) for row in probabilities] == pytest.approx([1] * 3, abs=1e-5)


def test_whatever_a_config_says_is_one_error_or_a_classifier(tmp_path):
    rng, refused = random.Random(0), 0
    for text in (json.dumps(CONFIG), *(json.dumps(mutate_value(rng, CONFIG, place)[1]) for place in places(CONFIG))):
        (tmp_path / "config.json").write_text(text)
        try:
            assert ExportedClassifier(tmp_path, brightest).preprocessing
        except ValueError as error:  # open_onnx_classifier() makes one line of it
            refused += 1
            assert "config.json" in str(error) and "\n" not in str(error)
    assert len(places(CONFIG)) / 2 < refused < len(places(CONFIG))
