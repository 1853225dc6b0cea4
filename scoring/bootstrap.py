"""95% intervals of scores and of their differences: what they would be on other pictures like these.

    scores.mean, scores.intervals(), scores.table     # of anything that is Resampled: captions, labels
    difference_intervals(scores, others)              # the same of others - scores, where both are of the same images

Each sample draws as many images as there are, some of them several times (Efron 1979).
"""

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np

SAMPLES, SEED = 1000, 0


class Resampled(ABC):
    """Scores of a set of images that can be had of any sample of it too, without looking at an image again."""

    @property
    @abstractmethod
    def num_images(self) -> int: ...

    @abstractmethod
    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """The scores when image i counts weights[r, i] times; weights (R, images) -> (R,) each."""

    @cached_property
    def mean(self) -> dict[str, float]:
        """The scores of the whole set."""
        return {name: float(values[0]) for name, values in self.resampled(np.ones((1, self.num_images))).items()}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95% bootstrap intervals over images."""
        return percentiles(self.resampled(bootstrap(self.num_images, SEED)))

    @cached_property
    def table(self) -> dict[str, dict[str, float]]:
        """name -> {"score", "low", "high"}: the score and its 95% interval."""
        intervals = self.intervals()
        return {n: {"score": value, "low": intervals[n][0], "high": intervals[n][1]} for n, value in self.mean.items()}


def bootstrap(images: int, seed: int) -> np.ndarray:
    """How often each image is drawn in each sample, (SAMPLES, images); the same seed draws the same images."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), SAMPLES)


def percentiles(resampled: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    return {name: tuple(np.percentile(values, (2.5, 97.5)).tolist()) for name, values in resampled.items()}


def difference_intervals(a: Resampled, b: Resampled) -> dict[str, tuple[float, float]]:
    """95% intervals of b - a for answers to the same images: each sample draws the same images for both (Koehn 2004).

    A picture that is hard for both moves both scores and not their difference: narrower than two intervals apart.
    """
    weights = bootstrap(a.num_images, SEED)
    first, second = a.resampled(weights), b.resampled(weights)
    return percentiles({name: second[name] - first[name] for name in first if name in second})


def format_table(table: dict[str, dict[str, float]]) -> list[str]:
    """A line a score, below a head."""
    width = max(12, *map(len, table))
    return [
        f"{'':<{width}} score    95% interval",
        *(f"{name:<{width}} {row['score']:.4f}   {row['low']:.4f} to {row['high']:.4f}" for name, row in table.items()),
    ]
