"""BLEU-1 to 4 (Papineni et al. 2002): shares of n-grams that a reference has too, of the whole set at once."""

from collections import Counter

import numpy as np

from scoring.ngrams import MAX_N, ngrams


class Bleu:
    """A metric.Metric of ten counts, see bleu_counts(); zero counts as in pycocoevalcap."""

    names = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4")

    def count(self, captions: list[str], references: list[list[str]]) -> np.ndarray:
        return np.array([bleu_counts(caption, row) for caption, row in zip(captions, references)])

    def score(self, sums: np.ndarray, images: np.ndarray) -> np.ndarray:
        correct, total, length, nearest = np.split(np.asarray(sums, dtype=float), [4, 8, 9], axis=-1)
        precision = np.cumprod((correct + 1e-15) / (total + 1e-9), axis=-1) ** (1 / np.arange(1, MAX_N + 1))
        ratio = (length + 1e-15) / (nearest + 1e-9)
        return precision * np.exp(np.minimum(0, 1 - 1 / ratio))


def bleu_counts(candidate: str, references: list[str]) -> list[int]:
    """[n-grams a reference has too, n = 1..4; n-grams, n = 1..4; words; words of the reference nearest in length]."""
    counts, length = ngrams(candidate), len(candidate.split())
    most: Counter[tuple[str, ...]] = Counter()
    for reference in references:
        most |= ngrams(reference)
    correct = [0] * MAX_N
    for ngram, count in (counts & most).items():
        correct[len(ngram) - 1] += count
    nearest = min((abs(len(r.split()) - length), len(r.split())) for r in references)[1]
    return [*correct, *(max(0, length - n) for n in range(MAX_N)), length, nearest]
