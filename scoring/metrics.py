"""Caption scores without Java: BLEU-1 to 4, ROUGE-L and CIDEr-D, equal to pycocoevalcap's (tests/scoring).

    scores = score_captions(["a dog runs"], [["A dog is running.", "A brown dog runs."]])
    scores.mean                    # {"BLEU-1": ..., "BLEU-4": ..., "ROUGE-L": ..., "CIDEr-D": ...}
    scores.intervals()             # {"BLEU-1": (low, high), ...}: 95% of bootstrap samples of the images
    scores.per_image["CIDEr-D"]    # one score a picture

BLEU and ROUGE-L go from 0 to 1, CIDEr-D from 0 to 10. Captions come as they are; they are cut into Penn Treebank
words here. A metric of your own is a file with a metric.Metric and a line in METRICS: scores, intervals, differences
(bootstrap.py) and all that prints them follow.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scoring.bleu import Bleu
from scoring.bootstrap import Resampled
from scoring.cider_d import CiderDMetric
from scoring.metric import Metric
from scoring.penn_treebank import words
from scoring.rouge_l import RougeL

METRICS: tuple[Metric, ...] = (Bleu(), RougeL(), CiderDMetric())


@dataclass
class Scores(Resampled):
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

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        images = weights.sum(axis=1)
        return named((metric, metric.score(weights @ counts, images)) for metric, counts in self.counts)


def named(scored: Iterable[tuple[Metric, np.ndarray]]) -> dict[str, np.ndarray]:
    """Scores (R, N) of each metric -> (R,) under each name."""
    return {name: values for metric, scores in scored for name, values in zip(metric.names, scores.T)}


def score_captions(captions: list[str], references: list[list[str]]) -> Scores:
    """Score one caption an image against its references. Raises ValueError where they do not fit together."""
    if len(captions) != len(references) or not captions or not all(references):
        raise ValueError(f"{len(captions)} captions, {len(references)} lists of references, none of which may be empty")
    candidates = [words(caption) for caption in captions]
    expected = [[words(reference) for reference in row] for row in references]
    return Scores([(metric, metric.count(candidates, expected)) for metric in METRICS])
