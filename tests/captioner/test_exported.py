"""Greedy and beam search in numpy, beside those of networks/search.py; what config.json may say."""

import json
import random

import numpy as np
import pytest
import torch
from attack.mutate import mutate_value, places
from chain import END, TABLES, Chain
from language_models import with_language_model
from tiny import CAPTIONS, tiny_settings, tiny_tokenizer

from captioner.exported import ExportedCaptioner
from networks.decoding_options import DecodingOptions
from networks.language_tokenizer import load_language_tokenizer
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
    table = np.array(table) * np.random.default_rng(0).uniform(1, 1.02, (5, 5))  # equal scores have no order
    for num_captions in range(1, beam + 1):
        options = DecodingOptions(5, beam_size=beam, num_captions=num_captions, length_penalty=length_penalty)
        rows = generate(Chain(table.tolist()), torch.zeros(3, 1, 1), tiny_tokenizer(), options)
        found = ChainInNumpy(table).search(np.zeros(3), options)
        assert [len(row) for row in found] == [num_captions] * 3
        scores = [[caption.score for caption in row] for row in rows]
        assert [[caption.score for caption in row] for row in found] == [pytest.approx(row, abs=1e-5) for row in scores]
        assert [[c.finished for c in row] for row in found] == [[c.finished for c in row] for row in rows]


STEPS = {"filter": "bilinear", "width_first": True, "mean": [0.5] * 3, "std": [0.5] * 3, "scale": 1 / 255}
PREPROCESSING = STEPS | {"resize": {"width": 8, "height": 8}, "crop": {"width": 8, "height": 8, "rounding": "down"}}
IDS = {"pad_id": 0, "start_id": 1, "end_id": 2, "unk_id": 3}
CONFIG = IDS | {"max_seq_len": 5, "beam_size": 3, "length_penalty": 1.0, "preprocessing": PREPROCESSING}


def test_whatever_a_config_says_is_one_error_or_a_captioner(tmp_path):
    tiny_tokenizer().save(tmp_path / "vocab.json", tmp_path / "merges.txt")
    rng, refused = random.Random(0), 0
    for text in (json.dumps(CONFIG), *(json.dumps(mutate_value(rng, CONFIG, place)[1]) for place in places(CONFIG))):
        (tmp_path / "config.json").write_text(text)
        try:
            captioner = ExportedCaptioner(tmp_path, *[None] * 3)
            assert captioner.own_options.beam_size >= 1
        except ValueError as error:  # open_onnx() makes one line of it
            refused += 1
            assert "config.json" in str(error) and "\n" not in str(error)
    assert len(places(CONFIG)) / 2 < refused < len(places(CONFIG))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_language_models_captions_are_written_as_its_tokenizer_writes_them(tmp_path, family):
    """Padding among them, which is a word of the model's, and marks, which are none."""
    tokenizer = load_language_tokenizer(tiny_settings(**with_language_model(family)))
    (tmp_path / "tokenizer.json").write_text(tokenizer.files()["tokenizer.json"])
    ids = {name: getattr(tokenizer, name) for name in ("pad_id", "start_id", "end_id")}
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **ids}))
    captioner, rng, size = ExportedCaptioner(tmp_path, *[None] * 3), random.Random(0), len(tokenizer)
    rows = [[i for i in rng.choices(range(size), k=12) if i != tokenizer.end_id] for _ in range(50)]
    rows += [tokenizer.encode(CAPTIONS[0])[1:-1], [tokenizer.pad_id] * 3, [*{tokenizer.start_id} - {tokenizer.end_id}]]
    assert [captioner.text(row) for row in rows] == [tokenizer.decode(row) for row in rows]
    assert bool(captioner.text(rows[-2])) == (family == "llama")  # whose padding is a word
