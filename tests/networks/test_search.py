"""Greedy, beam and sampled captions: equal with and without the cache, and right against exhaustive search."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from chain import END, TABLES, Chain
from tiny import tiny_model, tiny_tokenizer

from networks.decoding_options import DecodingOptions
from networks.search import draw, generate, keep_likely


def image_tokens(images: int = 3) -> torch.Tensor:
    return torch.randn(images, 5, 16, generator=torch.Generator().manual_seed(1))


def caption_ids(model, options, tokens=None):
    captions = generate(model, image_tokens() if tokens is None else tokens, tiny_tokenizer(), options)
    return [[(c.tokens, c.finished) for c in row] for row in captions]


@dataclass
class Read:
    """The tokens of each caption so far, and the cache of the images alone."""

    tokens: torch.Tensor
    cache: Any

    def select(self, rows, images=None):
        return Read(self.tokens[rows], self.cache.select(rows, images))


class WithoutCache:
    """A model that reads the whole caption again for each token."""

    def __init__(self, model):
        self.model, self.max_seq_len = model, model.max_seq_len

    def start(self, image_tokens):
        return Read(torch.empty(len(image_tokens), 0, dtype=torch.long), self.model.start(image_tokens))

    def decode(self, tokens, read):
        before = read.tokens if read.tokens.shape[1] else tokens[:, :0]  # at first a row for each caption
        tokens = torch.cat([before, tokens], dim=1)
        return self.model.decode(tokens, read.cache)[0], Read(tokens, read.cache)


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(beam_size=4, num_captions=3),
        dict(beam_size=3, length_penalty=0.0),
        dict(temperature=1.0, num_captions=3, seed=1),
        dict(temperature=0.7, top_k=20, top_p=0.9, seed=2),
    ],
)
def test_captions_are_the_same_with_and_without_the_cache(options):
    model, _ = tiny_model()
    options = DecodingOptions(max_seq_len=12, **options)
    assert caption_ids(model, options) == caption_ids(WithoutCache(model), options)


@pytest.mark.parametrize("options", [dict(), dict(beam_size=3), dict(temperature=1.0, seed=5, num_captions=2)])
def test_a_picture_gets_the_same_captions_alone_and_in_a_batch(options):
    model, _ = tiny_model()
    options = DecodingOptions(max_seq_len=10, **options)
    together = caption_ids(model, options)
    assert together == [caption_ids(model, options, image_tokens()[i : i + 1])[0] for i in range(3)]


@pytest.mark.parametrize("keys", [False, True])
@pytest.mark.parametrize("options", [dict(), dict(beam_size=3), dict(temperature=1.0, seed=5, num_captions=2)])
def test_finished_pictures_leave_the_batch(options, keys):
    """The first picture's captions end at once, the others' never: rows read fall to those of the others."""
    model, _ = tiny_model()
    rows, decode, start = [], model.decode, model.start

    def watched(tokens, cache):
        rows.append(cache.num_images)
        logits, cache = decode(tokens, cache)
        logits[..., END] = -30.0
        mark = cache.cross[0] if torch.is_tensor(cache.cross[0]) else cache.cross[0][0][:, 0]  # (A, S, C or D)
        logits[..., END] += 60.0 * (mark[:, 0, 0] == 0).repeat_interleave(len(logits) // rows[-1])[:, None]
        return logits, cache

    def marked(image_tokens):
        cache = model.decoder.with_keys(start(image_tokens)) if keys else start(image_tokens)
        (cache.cross[0][0][:, 0] if keys else cache.cross[0])[0, 0, 0] = 0
        return cache

    model.decode, model.start, model.decoder.worth_keys = watched, marked, lambda captions, tokens: False
    captions = caption_ids(model, DecodingOptions(8, **options))
    assert [row[0][0] == [] for row in captions] == [True, False, False] and rows[0] == 3 and rows[-1] == 2


def all_captions(table, max_len, length_penalty):
    """Every caption that ends within max_len tokens and its score, best first."""
    found = []
    for length in range(max_len):
        for words in itertools.product([v for v in range(len(table)) if v != END], repeat=length):
            path = [1, *words, END]
            p = math.prod(table[a][b] for a, b in itertools.pairwise(path))
            if p > 0:
                found.append((math.log(p) / (length + 1) ** length_penalty, list(words)))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0, 2.0])
def test_a_wide_beam_finds_the_best_captions_of_all(table, length_penalty):
    options = DecodingOptions(max_seq_len=5, beam_size=60, num_captions=5, length_penalty=length_penalty)
    rows = generate(Chain(table), torch.zeros(2, 1, 1), tiny_tokenizer(), options)
    expected = all_captions(table, 4, length_penalty)[:5]
    for row in rows:
        assert [c.score for c in row] == pytest.approx([score for score, _ in expected], abs=1e-5)
        assert row[0].tokens == expected[0][1] and all(c.finished for c in row)


def test_beam_search_beats_greedy_where_the_likeliest_word_leads_astray():
    greedy, beam = (
        generate(Chain(TABLES[0]), torch.zeros(1, 1, 1), tiny_tokenizer(), DecodingOptions(6, beam_size=k))[0][0]
        for k in (1, 3)
    )
    assert greedy.tokens[0] == 3 and beam.tokens == [4]


def test_captions_that_never_end_come_last_and_say_so():
    never = [[0.2] * 5, [0.1, 0.1, 0.1, 0.6, 0.1], [0.2] * 5, [0.0, 0.0, 0.0, 1.0, 0.0], [0.2] * 5]
    row = generate(
        Chain(never), torch.zeros(1, 1, 1), tiny_tokenizer(), DecodingOptions(4, beam_size=2, num_captions=2)
    )[0]
    assert [c.finished for c in row] == sorted([c.finished for c in row], reverse=True)
    greedy = generate(Chain(never), torch.zeros(1, 1, 1), tiny_tokenizer(), DecodingOptions(4))[0][0]
    assert greedy.tokens == [3, 3, 3] and not greedy.finished


def test_top_k_and_top_p_keep_the_likeliest():
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    assert keep_likely(logits, 2, 1.0).isfinite().tolist() == [[True, True, False, False]]
    assert keep_likely(logits, 0, 0.65).isfinite().tolist() == [[True, True, False, False]]
    assert keep_likely(logits, 0, 0.01).isfinite().tolist() == [[True, False, False, False]]
    assert keep_likely(logits, 9, 1.0).isfinite().all()


def test_draws_follow_the_distribution():
    """10,000 evenly spread numbers fall into each token's share exactly, up to rounding."""
    p = torch.tensor([0.5, 0.0, 0.3, 0.2])
    drawn = draw(p.log().expand(10_000, 4), torch.arange(10_000) / 10_000)
    assert torch.bincount(drawn, minlength=4).tolist() == pytest.approx([5000, 0, 3000, 2000], abs=2)


def test_a_seed_repeats_samples_and_another_changes_them():
    model, _ = tiny_model()
    options = [DecodingOptions(12, temperature=1.0, seed=seed, num_captions=2) for seed in (1, 1, 2)]
    first, again, other = (caption_ids(model, o) for o in options)
    assert first == again != other


@pytest.mark.parametrize(
    "wrong",
    [
        dict(num_captions=2),
        dict(beam_size=2, temperature=1.0),
        dict(top_p=0.0),
        dict(beam_size=0),
        dict(temperature=-1.0),
        dict(length_penalty=-0.5),
    ],
)
def test_options_that_exclude_each_other_are_refused(wrong):
    with pytest.raises(ValueError):
        generate(tiny_model()[0], image_tokens(), tiny_tokenizer(), DecodingOptions(**wrong))


@pytest.mark.parametrize("wanted", [None, 40])
@pytest.mark.parametrize("how", [{}, {"beam_size": 2}, {"temperature": 1.0, "seed": 1}])
def test_no_caption_is_longer_than_the_model_reads(wanted, how):
    never = [row[:] for row in TABLES[0]]
    for row in never:
        row[END] = 0.0
    chain = Chain(never)
    chain.max_seq_len = 7
    rows = generate(chain, torch.zeros(2, 1, 1), tiny_tokenizer(), DecodingOptions(wanted, **how))
    assert {len(caption.tokens) for row in rows for caption in row} == {6}  # and <s>


def test_captions_that_never_end_are_ranked_by_their_scores():
    table = [[0.2] * 5, [0.0, 0.0, 0.0, 0.6, 0.4], [0.2] * 5, [0.0, 0.0, 0.0, 0.51, 0.49], [0.0, 0.0, 0.0, 0.51, 0.49]]
    row = generate(
        Chain(table), torch.zeros(1, 1, 1), tiny_tokenizer(), DecodingOptions(5, beam_size=4, num_captions=4)
    )[0]
    assert not any(c.finished for c in row) and row[0].tokens == [3, 3, 3, 3]
    assert [c.score for c in row] == sorted([c.score for c in row], reverse=True)
