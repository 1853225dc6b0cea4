"""A captioner that is a table of probabilities, small enough to search exhaustively: for the tests of searches."""

import torch

END = 2
TABLES = [
    # <s> -> 3 or 4; the likelier 3 ends badly, so greedy is not best
    [[0.2] * 5, [0.01, 0.01, 0.08, 0.5, 0.4], [0.2] * 5, [0.2, 0.2, 0.2, 0.2, 0.2], [0.02, 0.02, 0.9, 0.03, 0.03]],
    # a short caption ends early and must not be lost while others go on
    [[0.2] * 5, [0.01, 0.01, 0.38, 0.5, 0.1], [0.2] * 5, [0.05, 0.05, 0.1, 0.1, 0.7], [0.05, 0.05, 0.5, 0.2, 0.2]],
]


class Chain:
    """A captioner whose next-token probabilities depend on the last token alone: a table (V, V)."""

    max_seq_len = 40

    def __init__(self, table):
        self.logits = torch.tensor(table).log()

    def start(self, tokens):
        return self

    def select(self, rows, images=None):
        return self

    def decode(self, tokens, cache):
        return self.logits[tokens], self
