"""Caption scores without Java: BLEU-1 to 4, ROUGE-L and CIDEr-D, equal to pycocoevalcap's (tests/test_metrics.py).

    scores = score_captions(["a dog runs"], [["A dog is running.", "A brown dog runs."]])
    scores.mean                    # {"BLEU-1": ..., "BLEU-4": ..., "ROUGE-L": ..., "CIDEr-D": ...}, all as fractions
    scores.intervals()             # {"BLEU-1": (low, high), ...}: 95% of bootstrap samples of the images
    scores.per_image["CIDEr-D"]    # one score a picture
    difference_intervals(scores, others)     # the same of others - scores, where both are of the same images

Captions come as they are; they are cut into Penn Treebank words here. CIDEr-D goes from 0 to 10 and is often quoted
times 100; its word weights come from all the references given, so scores of different sets are not comparable.
"""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from scoring.penn_treebank import words

MAX_N = 4  # longest n-gram of BLEU and CIDEr-D
ROUGE_BETA = 1.2  # weight of recall in ROUGE-L
CIDER_SIGMA = 6.0  # width of CIDEr-D's penalty on a different length, words
NAMES = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D")


@dataclass
class Scores:
    """Scores of a set of captions; `bleu_counts` (images, 10) are the sums BLEU is made of."""

    per_image: dict[str, np.ndarray]  # name -> (images,)
    bleu_counts: np.ndarray

    @property
    def mean(self) -> dict[str, float]:
        """The scores of the whole set; BLEU from summed counts, the others as means over images."""
        return {name: float(values[0]) for name, values in self.resampled(np.ones((1, len(self.bleu_counts)))).items()}

    def intervals(self, samples: int = 1000, seed: int = 0) -> dict[str, tuple[float, float]]:
        """95% bootstrap intervals over images (Efron 1979); CIDEr-D's word weights stay those of the whole set."""
        return percentiles(self.resampled(bootstrap(len(self.bleu_counts), samples, seed)))

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """The scores when image i counts weights[r, i] times; weights (R, images) -> (R,) each."""
        values = dict(zip(NAMES, bleu(weights @ self.bleu_counts).T))
        for name, scores in self.per_image.items():
            if not name.startswith("BLEU"):
                values[name] = weights @ scores / weights.sum(axis=1)
        return values


def bootstrap(images: int, samples: int, seed: int) -> np.ndarray:
    """How often each image is drawn in each sample, (samples, images); the same seed draws the same images."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), samples)


def percentiles(resampled: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    return {name: tuple(np.percentile(values, (2.5, 97.5)).tolist()) for name, values in resampled.items()}


def difference_intervals(a: Scores, b: Scores, samples: int = 1000, seed: int = 0) -> dict[str, tuple[float, float]]:
    """95% intervals of b - a for captions of the same images: each sample draws the same images for both (Koehn 2004).

    A picture that is hard for both moves both scores and not their difference: narrower than two intervals apart.
    """
    weights = bootstrap(len(a.bleu_counts), samples, seed)
    first, second = a.resampled(weights), b.resampled(weights)
    return percentiles({name: second[name] - first[name] for name in NAMES})


def score_captions(captions: list[str], references: list[list[str]]) -> Scores:
    """Score one caption an image against its references. Raises ValueError where they do not fit together."""
    if len(captions) != len(references) or not captions or not all(references):
        raise ValueError(f"{len(captions)} captions, {len(references)} lists of references, none of which may be empty")
    candidates = [words(caption) for caption in captions]
    references = [[words(reference) for reference in row] for row in references]
    counts = np.array([bleu_counts(c, row) for c, row in zip(candidates, references)])
    cider = CiderD(references)
    per_image = dict(zip(NAMES, bleu(counts).T))
    per_image["ROUGE-L"] = np.array([rouge_l(c, row) for c, row in zip(candidates, references)])
    per_image["CIDEr-D"] = np.array([cider.score(c, i) for i, c in enumerate(candidates)])
    return Scores(per_image, counts)


def ngrams(text: str) -> Counter:
    """How often each run of 1 to 4 words occurs."""
    tokens = text.split()
    return Counter(tuple(tokens[i : i + n]) for n in range(1, MAX_N + 1) for i in range(len(tokens) - n + 1))


def bleu_counts(candidate: str, references: list[str]) -> list[int]:
    """[n-grams a reference has too, n = 1..4; n-grams, n = 1..4; words; words of the reference nearest in length]."""
    counts, length = ngrams(candidate), len(candidate.split())
    most = Counter()
    for reference in references:
        most |= ngrams(reference)
    correct = [0] * MAX_N
    for ngram, count in (counts & most).items():
        correct[len(ngram) - 1] += count
    nearest = min((abs(len(r.split()) - length), len(r.split())) for r in references)[1]
    return [*correct, *(max(0, length - n) for n in range(MAX_N)), length, nearest]


def bleu(counts: np.ndarray) -> np.ndarray:
    """BLEU-1..4 (Papineni et al. 2002) from counts (..., 10), -> (..., 4); zero counts as in pycocoevalcap."""
    correct, total, length, nearest = np.split(np.asarray(counts, dtype=float), [4, 8, 9], axis=-1)
    precision = np.cumprod((correct + 1e-15) / (total + 1e-9), axis=-1) ** (1 / np.arange(1, MAX_N + 1))
    ratio = (length + 1e-15) / (nearest + 1e-9)
    return precision * np.exp(np.minimum(0, 1 - 1 / ratio))


def rouge_l(candidate: str, references: list[str]) -> float:
    """ROUGE-L (Lin 2004): best precision and best recall of the longest common subsequence over the references."""
    tokens = candidate.split(" ")
    common = [(common_subsequence(tokens, r.split(" ")), len(r.split(" "))) for r in references]
    precision = max(length for length, _ in common) / len(tokens)
    recall = max(length / total for length, total in common)
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + ROUGE_BETA**2) * precision * recall / (recall + ROUGE_BETA**2 * precision)


def common_subsequence(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for token in a:
        diagonal = 0
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], diagonal + 1 if token == other else max(row[j], row[j - 1])
    return row[-1]


class CiderD:
    """CIDEr-D (Vedantam et al. 2015, arXiv 1411.5726) against fixed references: also the reward in scst.py.

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
