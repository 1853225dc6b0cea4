"""Greedy and beam search in numpy, beside those of networks/search.py."""

import numpy as np
import pytest
import torch
from chain import END, TABLES, Chain
from tiny import tiny_tokenizer

from captioner.exported import ExportedCaptioner
from networks.decoding_options import DecodingOptions
from networks.search import generate


class ChainInNumpy(ExportedCaptioner):
    """chain.Chain without PyTorch; its three pictures are alike."""

    start_id, end_id, max_seq_len = 1, END, 5

    def __init__(self, table):
        self.logits = np.log(np.array(table, np.float32), where=np.array(table) > 0, out=np.full((5, 5), -np.inf, "f"))

    def start(self, pixels):
        return self.logits[np.full((3, 1), self.start_id)], [], []

    def read(self, tokens, cross, own):
        return self.logits[tokens], []


NEVER_ENDS = [[0.2] * 5, [0.05, 0.07, 0.1, 0.6, 0.18], [0.2] * 5, [0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.3, 0.7]]


@pytest.mark.parametrize("table", [*TABLES, NEVER_ENDS])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("beam", [1, 2, 4])
def test_the_searches_in_numpy_find_what_those_in_pytorch_find(table, length_penalty, beam):
    options = DecodingOptions(5, beam_size=beam, length_penalty=length_penalty)
    rows = generate(Chain(table), torch.zeros(3, 1, 1), tiny_tokenizer(), options)
    tokens, scores = ChainInNumpy(table).search(np.zeros(3), beam, length_penalty)
    assert scores.tolist() == pytest.approx([row[0].score for row in rows], abs=1e-5)
    assert [END in row for row in tokens.tolist()] == [row[0].finished for row in rows]
