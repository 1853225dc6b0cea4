"""What a metric is: captions to counts that are summed over images, and sums to scores; and scores made elsewhere."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Metric(Protocol):
    """A score of captions, or several from the same counts, such as BLEU-1 to 4.

    The score of a set is that of its summed counts, so that any sample of its images can be scored without cutting a
    caption into words again. Captions and references come as words(); R samples, K counts, N names.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    def count(self, captions: list[str], references: list[list[str]]) -> np.ndarray:
        """What each image adds to the sums, (images, K)."""

    def score(self, sums: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Sums (R, K) over images (R,), how many they are -> scores (R, N), as they are printed."""


class MeanOverImages:
    """The half of a metric whose score is the mean over images: one count an image, its own score."""

    def score(self, sums: np.ndarray, images: np.ndarray) -> np.ndarray:
        return sums / images[:, None]


@dataclass
class OutsideScore:
    """A score of the whole set and of each picture, by a program that gives nothing else."""

    score: float
    per_image: list[float]

    @property
    def summary(self) -> dict[str, float]:
        """The score and the 95% bootstrap interval of the mean over pictures, moved to it: METEOR's is no mean."""
        random = np.random.default_rng(0)
        values = np.array(self.per_image)
        means = [random.choice(values, len(values)).mean() for _ in range(1000)]
        low, high = (np.percentile(means, (2.5, 97.5)) - values.mean() + self.score).tolist()
        return {"score": self.score, "low": low, "high": high}
