"""ROUGE-L (Lin 2004): the longest common subsequence of words with the references."""

import numpy as np

from scoring.metric import MeanOverImages

ROUGE_BETA = 1.2  # weight of recall


class RougeL(MeanOverImages):
    names = ("ROUGE-L",)

    def count(self, captions: list[str], references: list[list[str]]) -> np.ndarray:
        return np.array([[rouge_l(caption, row)] for caption, row in zip(captions, references)])


def rouge_l(candidate: str, references: list[str]) -> float:
    """The best precision and the best recall over the references, as one number."""
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
