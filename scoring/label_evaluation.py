"""A split's pictures classified and scored, with a signature that says when two numbers may be compared.

    evaluation = evaluate_label_files(classifier, pictures, precision, batch_size, path)   # each is decoded once
    evaluation = score_label_evaluation(logits, pictures, classifier.classes, precision, path)
    evaluation.scores.table["top-1"]                         # {"score": ..., "low": ..., "high": ...}
    json_text(label_record(evaluation))                      # every picture with its label, answer and probability

A picture's label is its one reference. Labels and classes are compared by name, whatever their order.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from basics.devices import autocast
from basics.errors import UserError
from basics.paths import shown
from basics.progress_bar import progress_bar
from captioner.picture_files import answer_picture_files
from classifier.folder import Classifier
from networks.encoder import prepare_pixels
from scoring.labels import LabelScores, log_probabilities, score_labels
from scoring.signature import checkpoint_hash, data_hash, dtype_name, short_hash
from sources.pictures import Pictures, leave_out


@dataclass
class LabelEvaluation:
    """Answers to pictures, how good they are, and in `signature` all that decided the numbers."""

    checkpoint: str
    pictures: Pictures
    classes: list[str]
    probabilities: np.ndarray  # (N, C)
    scores: LabelScores
    signature: str

    def label(self, number: int) -> str:
        """Of the picture of that number."""
        return self.classes[self.scores.labels[number]]

    def answer(self, number: int) -> str:
        return self.classes[self.scores.answers[number]]


def evaluate_label_files(
    classifier: Classifier, pictures: Pictures, precision: torch.dtype, batch_size: int, checkpoint: str
) -> LabelEvaluation:
    """Classify and score what can be read of the pictures; the others are left out. Raises UserError.

    What of labels and classes does not fit is said before anything is classified.
    """

    def answer(images: Iterable[Image.Image]) -> list[list[np.ndarray]]:
        logits = classifier.logits(prepare_pixels(classifier.image_processor, images))
        return [[row] for row in logits.cpu().numpy()]

    label_numbers(pictures, classifier.classes)
    with autocast(classifier.device, precision):
        found = answer_picture_files(answer, pictures.paths, batch_size)
        rows = list(progress_bar(found, total=len(pictures.paths), desc="classifying", unit=" pictures"))
    pictures = leave_out(pictures, [row.error for row in rows])
    logits = np.stack([row.answers[0] for row in rows if row.error is None])
    return score_label_evaluation(logits, pictures, classifier.classes, precision, checkpoint)


def score_label_evaluation(
    logits: np.ndarray, pictures: Pictures, classes: list[str], precision: torch.dtype, checkpoint: str
) -> LabelEvaluation:
    """Scores of logits or log-probabilities (N, C). Raises UserError where labels and classes do not fit."""
    labels = label_numbers(pictures, classes)
    if not np.isfinite(logits).all():
        raise UserError(f"{checkpoint} is damaged: some of its answers are no finite numbers")
    probabilities = np.exp(log_probabilities(logits)).astype(np.float32)
    scores = score_labels(logits, labels)
    signature = sign_labels(pictures, classes, precision, checkpoint)
    return LabelEvaluation(checkpoint, pictures, classes, probabilities, scores, signature)


def label_numbers(pictures: Pictures, classes: list[str]) -> np.ndarray:
    """The class of each picture, (N,). Raises UserError for labels that the classifier does not know."""
    labels = [row[0] for row in pictures.references]
    numbers = {name: number for number, name in enumerate(classes)}
    if unknown := sorted(set(labels) - set(numbers)):
        raise UserError(
            f"{len(unknown)} of the {len(set(labels))} labels of the {pictures.split} split are none of the "
            f"classifier's {len(classes)} classes: {named_few(unknown)}; it knows {named_few(classes)}"
        )
    if twice := sorted({name for name in set(labels) if classes.count(name) > 1}):
        raise UserError(f"the classifier has several classes of one name: {named_few(twice)}; expected one")
    return np.array([numbers[label] for label in labels])


def named_few(names: list[str], few: int = 3) -> str:
    """The first of them, for a line."""
    return ", ".join([*(shown(name) for name in names[:few]), *(["..."] if len(names) > few else [])])


def sign_labels(pictures: Pictures, classes: list[str], precision: torch.dtype, checkpoint: str) -> str:
    return (
        f"split:{pictures.split}|images:{len(pictures.paths)}|data:{data_hash(pictures)}|"
        f"classes:{len(classes)},{short_hash(sorted(classes))}|precision:{dtype_name(precision)}|"
        f"checkpoint:{checkpoint_hash(checkpoint)}"
    )


def label_record(evaluation: LabelEvaluation) -> dict:
    """All of an evaluation as its JSON file has it."""
    return {
        "checkpoint": evaluation.checkpoint,
        "scores": evaluation.scores.table,
        "signature": evaluation.signature,
        "classes": class_records(evaluation),
        "confusions": confusions(evaluation),
        "left_out": evaluation.pictures.left_out,
        "images": answer_records(evaluation),
    }


def class_records(evaluation: LabelEvaluation) -> list[dict]:
    """Each class with its accuracy; null where the split has no picture of it."""
    scores = evaluation.scores
    return [
        {"class": name, "pictures": int(pictures), "accuracy": round(float(accuracy), 6) if pictures else None}
        for name, pictures, accuracy in zip(evaluation.classes, scores.support, scores.class_accuracy)
    ]


def confusions(evaluation: LabelEvaluation) -> list[dict]:
    """Each wrong answer to each label with how often it was given, the most frequent first."""
    wrong, classes = evaluation.scores.confusion, evaluation.classes
    np.fill_diagonal(wrong, 0)
    rows, columns = np.nonzero(wrong)
    order = np.argsort(-wrong[rows, columns], kind="stable")
    return [
        {"label": classes[i], "answer": classes[j], "pictures": int(wrong[i, j])}
        for i, j in zip(rows[order], columns[order])
    ]


def answer_records(evaluation: LabelEvaluation) -> list[dict]:
    confidences = evaluation.probabilities.max(axis=1)
    return [
        {
            "image": path.name,
            "label": evaluation.label(i),
            "prediction": evaluation.answer(i),
            "probability": round(float(confidences[i]), 4),
        }
        for i, path in enumerate(evaluation.pictures.paths)
    ]
