"""A metric of one's own, for the tests of what is generic over metrics."""

import numpy as np

from scoring.metric import MeanOverImages


class WordCount(MeanOverImages):
    """Words of a caption beyond those of its first reference; `asked` says how often captions were scored."""

    names = ("words",)

    def __init__(self):
        self.asked = 0

    def count(self, captions: list[str], references: list[list[str]]) -> np.ndarray:
        self.asked += 1
        return np.array([[len(c.split()) - len(row[0].split())] for c, row in zip(captions, references)])
