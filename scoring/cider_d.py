"""CIDEr-D (Vedantam et al. 2015, arXiv 1411.5726): weighted n-grams shared with the references, from 0 to 10.

It is often quoted times 100; its word weights come from all the references given, so scores of different sets are not
comparable, and samples of the images keep the weights of the whole set.
"""

import math
from collections import Counter, defaultdict

import numpy as np

from scoring.metric import MeanOverImages
from scoring.ngrams import MAX_N, ngrams

CIDER_SIGMA = 6.0  # width of the penalty on a different length, words


class CiderDMetric(MeanOverImages):
    names = ("CIDEr-D",)

    def count(self, captions: list[str], references: list[list[str]]) -> np.ndarray:
        cider = CiderD(references)
        return np.array([[cider.score(caption, i)] for i, caption in enumerate(captions)])


class CiderD:
    """CIDEr-D against fixed references: also the reward in losses/self_critical.py.

    references: for each image its references as words(); their n-grams' document frequencies weigh the n-grams.
    """

    def __init__(self, references: list[list[str]]):
        counts = [[ngrams(reference) for reference in row] for row in references]
        frequency = Counter(ngram for row in counts for ngram in set().union(*row))
        self.unseen = math.log(len(references))  # inverse document frequency of an n-gram that no reference has
        self.inverse_frequency = {ngram: self.unseen - math.log(count) for ngram, count in frequency.items()}
        self.references = [self.index(row) for row in counts]

    def weigh(self, counts: Counter) -> tuple[dict[tuple, float], list[float], int]:
        """Counts -> weight of each n-gram, norm of the weights for n = 1..4, length."""
        weights, norms = {}, [0.0] * MAX_N
        for ngram, count in counts.items():
            weight = count * self.inverse_frequency.get(ngram, self.unseen)
            weights[ngram] = weight
            norms[len(ngram) - 1] += weight**2
        return weights, [math.sqrt(norm) for norm in norms], sum(n for ngram, n in counts.items() if len(ngram) == 2)

    def index(self, row: list[Counter]) -> tuple[dict, list, list]:
        """n-gram -> [(reference, its weight there), ...], and the norms and length of each reference."""
        index, norms, lengths = defaultdict(list), [], []
        for number, counts in enumerate(row):
            weights, norm, length = self.weigh(counts)
            norms.append(norm)
            lengths.append(length)
            for ngram, weight in weights.items():
                index[ngram].append((number, weight))
        return dict(index), norms, lengths

    def score(self, candidate: str, image: int) -> float:
        """CIDEr-D, 0 to 10, of words() for the references of an image."""
        index, norms, lengths = self.references[image]
        weights, own_norms, own_length = self.weigh(ngrams(candidate))
        products = [[0.0] * MAX_N for _ in norms]
        for ngram, weight in weights.items():
            for number, other in index.get(ngram, ()):
                products[number][len(ngram) - 1] += min(weight, other) * other
        total = 0.0
        for product, norm, length in zip(products, norms, lengths):
            alike = sum(p / (a * b) if a and b else p for p, a, b in zip(product, own_norms, norm))
            total += alike * math.exp(-((own_length - length) ** 2) / (2 * CIDER_SIGMA**2))
        return 10 * total / MAX_N / len(norms)
