"""Answers of a classifier that is not there: what the tests of its scores share."""

from pathlib import Path

import numpy as np
import torch

from scoring.label_evaluation import LabelEvaluation, score_label_evaluation
from sources.pictures import Pictures


def labelled(labels: list[str], split: str = "val") -> Pictures:
    """Pictures 0.png, 1.png, ... of those labels."""
    return Pictures(split, [Path(f"{i}.png") for i in range(len(labels))], [[label] for label in labels], [])


def evaluated(probabilities: list[list[float]], labels: list[str], classes: list[str]) -> LabelEvaluation:
    logits = np.log(np.maximum(probabilities, 1e-300))
    return score_label_evaluation(logits, labelled(labels), classes, torch.float32, "user/name")


def random_evaluation(pictures: int, classes: int) -> LabelEvaluation:
    """Answers that are often right."""
    random = np.random.default_rng(0)
    labels, names = random.integers(0, classes, pictures), [f"class {i}" for i in range(classes)]
    logits = random.normal(size=(pictures, classes)) + 3 * np.eye(classes)[labels]
    return score_label_evaluation(logits, labelled([names[i] for i in labels]), names, torch.float32, "user/name")
