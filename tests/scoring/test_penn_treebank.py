"""Our Penn Treebank words are pycocoevalcap's, as recorded and, where Java is found, as it says today."""

import json

import pytest
from reference_scores import AVAILABLE, FLICKR8K, RECORDED, cases, digest, flickr8k_captions, reference_words

from scoring.penn_treebank import words

recorded = json.loads(RECORDED.read_text(encoding="utf-8"))


def test_nasty_captions_are_cut_as_recorded():
    assert {caption: words(caption) for caption in cases()} == recorded["words"]


def test_there_are_cases_of_every_kind():
    text = "\n".join(recorded["words"])
    for sample in ("can't", "-", '"', "...", "…", "3.5", "é", "😀", "’", "&amp;", "U.S."):
        assert sample in text
    assert "" in recorded["words"]


@pytest.mark.skipif(not FLICKR8K.is_file(), reason="needs ../shared/data/flickr8k")
def test_every_caption_of_flickr8k_is_cut_as_recorded():
    found = [words(caption) for row in flickr8k_captions().values() for caption in row]
    assert digest(found) == recorded["flickr8k_words"]


@pytest.mark.skipif(not AVAILABLE, reason="needs Java and pycocoevalcap")
def test_the_record_is_what_pycocoevalcap_says():
    assert dict(zip(cases(), reference_words(cases()))) == recorded["words"]


def test_white_space_of_every_kind_separates_words():
    assert words(" a\tdog\u00a0 runs\n") == "a dog runs"


def test_a_caption_does_not_depend_on_its_neighbours():
    assert words("it is no.") == "it is no"  # the lexer itself would read "no. 5" into the next line
