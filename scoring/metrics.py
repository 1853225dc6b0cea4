"""Caption scores without Java: BLEU-1 to 4, ROUGE-L and CIDEr-D, equal to pycocoevalcap's (tests/scoring).

    scores = score_captions(["a dog runs"], [["A dog is running.", "A brown dog runs."]])
    scores.mean                    # {"BLEU-1": ..., "BLEU-4": ..., "ROUGE-L": ..., "CIDEr-D": ...}
    scores.intervals()             # {"BLEU-1": (low, high), ...}: 95% of bootstrap samples of the images
    scores.per_image["CIDEr-D"]    # one score a picture
    difference_intervals(scores, others)     # the same of others - scores, where both are of the same images

BLEU and ROUGE-L go from 0 to 1, CIDEr-D from 0 to 10. Captions come as they are; they are cut into Penn Treebank
words here. A metric of your own is a file with a
metric.Metric and a line in METRICS: scores, intervals, differences and all that prints them follow.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scoring.bleu import Bleu
from scoring.cider_d import CiderDMetric
from scoring.metric import Metric
from scoring.penn_treebank import words
from scoring.rouge_l import RougeL

SAMPLES, SEED = 1000, 0  # of the bootstrap
METRICS: tuple[Metric, ...] = (Bleu(), RougeL(), CiderDMetric())


@dataclass
class Scores:
    """Scores of a set of captions, kept as what they are made of: each metric with its counts (images, K)."""

    counts: list[tuple[Metric, np.ndarray]]

    @property
    def num_images(self) -> int:
        return len(self.counts[0][1])

    @cached_property
    def per_image(self) -> dict[str, np.ndarray]:
        """name -> (images,)."""
        alone = np.ones(self.num_images)
        return named((metric, metric.score(counts, alone)) for metric, counts in self.counts)

    @cached_property
    def mean(self) -> dict[str, float]:
        """The scores of the whole set; BLEU from summed counts, the others as means over images."""
        return {name: float(values[0]) for name, values in self.resampled(np.ones((1, self.num_images))).items()}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95% bootstrap intervals over images (Efron 1979)."""
        return percentiles(self.resampled(bootstrap(self.num_images, SEED)))

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """The scores when image i counts weights[r, i] times; weights (R, images) -> (R,) each."""
        images = weights.sum(axis=1)
        return named((metric, metric.score(weights @ counts, images)) for metric, counts in self.counts)


def named(scored: Iterable[tuple[Metric, np.ndarray]]) -> dict[str, np.ndarray]:
    """Scores (R, N) of each metric -> (R,) under each name."""
    return {name: values for metric, scores in scored for name, values in zip(metric.names, scores.T)}


def bootstrap(images: int, seed: int) -> np.ndarray:
    """How often each image is drawn in each sample, (SAMPLES, images); the same seed draws the same images."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), SAMPLES)


def percentiles(resampled: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    return {name: tuple(np.percentile(values, (2.5, 97.5)).tolist()) for name, values in resampled.items()}


def difference_intervals(a: Scores, b: Scores) -> dict[str, tuple[float, float]]:
    """95% intervals of b - a for captions of the same images: each sample draws the same images for both (Koehn 2004).

    A picture that is hard for both moves both scores and not their difference: narrower than two intervals apart.
    """
    weights = bootstrap(a.num_images, SEED)
    first, second = a.resampled(weights), b.resampled(weights)
    return percentiles({name: second[name] - first[name] for name in first})


def score_captions(captions: list[str], references: list[list[str]]) -> Scores:
    """Score one caption an image against its references. Raises ValueError where they do not fit together."""
    if len(captions) != len(references) or not captions or not all(references):
        raise ValueError(f"{len(captions)} captions, {len(references)} lists of references, none of which may be empty")
    candidates = [words(caption) for caption in captions]
    expected = [[words(reference) for reference in row] for row in references]
    return Scores([(metric, metric.count(candidates, expected)) for metric in METRICS])
