"""Scores of a classifier's answers: accuracies, and how far its probabilities may be believed.

    scores = score_labels(logits, labels)         # (N, C) and (N,); of probabilities give np.log(probabilities)
    scores.mean["top-1"], scores.table            # with 95% intervals over the pictures
    difference_intervals(scores, others)          # bootstrap.py: others - scores, on the same pictures
    scores.support, scores.class_accuracy         # of each class; NaN for a class without a picture
    scores.confusion                              # (C, C): pictures by label and answer
    agreement(scores, others)                     # share of equal answers

N pictures, C classes, R samples. Where two classes are equally likely the first is answered.
"""

from dataclasses import dataclass

import numpy as np

from scoring.bootstrap import SEED, Resampled, bootstrap, percentiles

TOP_1, TOP_5, CLASS_MEAN, NLL, ECE = "top-1", "top-5", "class mean", "NLL", "ECE"
BINS = 15  # of the calibration error, equally wide (Guo et al. 2017, arXiv 1706.04599)
LEAST = -700.0  # log-probability beside the likeliest class's; what rounding made 0 would count infinitely


@dataclass
class LabelScores(Resampled):
    """Scores of answers to pictures, kept as what they are made of, (N,) each."""

    labels: np.ndarray
    answers: np.ndarray
    ranks: np.ndarray  # of the label among the classes, 0: it is the answer
    confidences: np.ndarray  # the answer's probability
    losses: np.ndarray  # minus the label's log-probability
    num_classes: int

    @property
    def num_images(self) -> int:
        return len(self.labels)

    @property
    def right(self) -> np.ndarray:
        return self.ranks == 0

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        images = weights.sum(axis=1)
        found = {TOP_1: weights @ self.right / images}
        if self.num_classes > 5:
            found[TOP_5] = weights @ (self.ranks < 5) / images
        found[CLASS_MEAN] = self.class_mean(weights)
        found[NLL] = weights @ self.losses / images
        found[ECE] = np.abs(weights @ self.excesses()).sum(axis=1) / images
        return found

    def class_mean(self, weights: np.ndarray) -> np.ndarray:
        """The mean over classes of each one's accuracy, (R,); a class that a sample holds no picture of is left out."""
        return np.array([np.nanmean(self.accuracy_by_class(row)) for row in weights])

    def accuracy_by_class(self, weights: np.ndarray) -> np.ndarray:
        """(C,) for the weights (N,) of the pictures."""
        pictures = np.bincount(self.labels, weights, self.num_classes)
        right = np.bincount(self.labels, weights * self.right, self.num_classes)
        return np.divide(right, pictures, out=np.full(self.num_classes, np.nan), where=pictures > 0)

    def excesses(self) -> np.ndarray:
        """(N, BINS): by how much the answer was believed more than it was right, in the bin of its confidence.

        A bin's share of the error is its pictures' sum, as |accuracy - mean confidence| counts by its pictures.
        """
        bins = np.clip(np.ceil(self.confidences * BINS).astype(int) - 1, 0, BINS - 1)
        return np.eye(BINS)[bins] * (self.confidences - self.right)[:, None]

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95% bootstrap intervals over images.

        Drawing pictures twice adds to the calibration error, which has no sign for noise to cancel by: its interval
        is moved down by what it added.
        """
        resampled = self.resampled(bootstrap(self.num_images, SEED))
        added = resampled[ECE].mean() - self.mean[ECE]
        return percentiles({**resampled, ECE: np.maximum(resampled[ECE] - added, 0)})

    @property
    def support(self) -> np.ndarray:
        return np.bincount(self.labels, minlength=self.num_classes)

    @property
    def class_accuracy(self) -> np.ndarray:
        return self.accuracy_by_class(np.ones(self.num_images))

    @property
    def confusion(self) -> np.ndarray:
        pairs = np.bincount(self.labels * self.num_classes + self.answers, minlength=self.num_classes**2)
        return pairs.reshape(self.num_classes, self.num_classes)


def score_labels(logits: np.ndarray, labels: np.ndarray) -> LabelScores:
    """Score logits or log-probabilities (N, C) against class numbers (N,). Raises ValueError where they do not fit."""
    logits, labels = np.asarray(logits), np.asarray(labels, dtype=np.int64)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(f"logits {logits.shape}, labels {labels.shape}: expected (N, C) and (N,), one picture or more")
    if not 0 <= labels.min() <= labels.max() < logits.shape[1]:
        raise ValueError(f"labels from {labels.min()} to {labels.max()}, but {logits.shape[1]} classes")
    logs, answers = log_probabilities(logits), logits.argmax(axis=1)
    own = of_class(logits, labels)[:, None]
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    ranks = ((logits > own) | (logits == own) & earlier).sum(axis=1)
    confidences, losses = np.exp(of_class(logs, answers)), -of_class(logs, labels)
    return LabelScores(labels, answers, ranks, confidences, losses, logits.shape[1])


def of_class(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """(N, C) and a class of each picture (N,) -> (N,)."""
    return np.take_along_axis(values, numbers[:, None], axis=1)[:, 0]


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities (N, C), which they may be already. Raises ValueError for what is no number."""
    logits = logits.astype(np.float64)
    highest = logits.max(axis=1, keepdims=True)
    if not np.isfinite(highest).all():
        raise ValueError("some logits are no finite numbers")
    logits = np.maximum(logits - highest, LEAST)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def agreement(a: LabelScores, b: LabelScores) -> float:
    """The share of pictures that both answer alike."""
    return float((a.answers == b.answers).mean())
