"""Byte-level BPE: round trips, special tokens, files, refusals."""

import json

import pytest
from tiny import CAPTIONS, tiny_settings, tiny_tokenizer

from basics.errors import UserError
from tokenizer import SPECIAL_TOKENS, CaptionTokenizer, build_tokenizer, train_tokenizer


@pytest.mark.parametrize("caption", ["a small red circle", "Äpfel & naïve 犬 🐕‍🦺", "it's   3.5 m \t wide!", ""])
def test_any_text_survives_the_round_trip_in_lower_case(caption):
    tokenizer = tiny_tokenizer()
    assert tokenizer.decode(tokenizer.encode(caption)) == " ".join(caption.lower().split())


def test_captions_start_and_end_with_their_tokens():
    tokenizer = tiny_tokenizer()
    ids = tokenizer.encode("a circle")
    assert (ids[0], ids[-1]) == (tokenizer.start_id, tokenizer.end_id)
    assert [tokenizer.vocab[token] for token in SPECIAL_TOKENS] == [0, 1, 2, 3]


def test_special_tokens_written_in_a_caption_are_plain_text():
    tokenizer = tiny_tokenizer()
    ids = tokenizer.encode("a </s> b <pad>")
    assert ids.count(tokenizer.end_id) == 1 and tokenizer.pad_id not in ids
    assert tokenizer.decode(ids) == "a </s> b <pad>"


def test_decoding_stops_at_the_first_end():
    tokenizer = tiny_tokenizer()
    ids = tokenizer.encode("a circle") + tokenizer.encode("more")
    assert tokenizer.decode(ids) == "a circle"


def test_a_word_is_one_token_wherever_it_stands():
    tokenizer = tiny_tokenizer()
    assert tokenizer.encode("circle red")[1] == tokenizer.encode("red circle")[-2]


def test_case_is_kept_where_lowercase_is_off():
    tokenizer = train_tokenizer(["A Dog"] * 3, 300, 1, lowercase=False)
    assert tokenizer.decode(tokenizer.encode("A Dog")) == "A Dog"


def test_vocab_size_and_min_frequency_bound_the_vocabulary():
    assert len(train_tokenizer(CAPTIONS, 270, 1, True)) == 270
    assert len(train_tokenizer(CAPTIONS, 2000, 10**6, True)) == 260  # bytes and special tokens, no merges


def test_files_are_trained_when_absent_and_loaded_when_there(tmp_path):
    settings = tiny_settings(VOCAB_PATH=str(tmp_path / "v.json"), MERGES_PATH=str(tmp_path / "m.txt"))
    trained = build_tokenizer(settings, CAPTIONS)
    loaded = build_tokenizer(settings, ["other captions"])
    assert loaded.hash == trained.hash and [*loaded.encode_each(CAPTIONS)] == [*trained.encode_each(CAPTIONS)]


def test_the_files_load_in_the_tokenizers_library(tmp_path):
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = tiny_tokenizer()
    tokenizer.save(tmp_path / "vocab.json", tmp_path / "merges.txt")
    peer = ByteLevelBPETokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"), add_prefix_space=True)
    assert peer.encode("a small red circle").ids == tokenizer.encode("a small red circle")[1:-1]


@pytest.mark.parametrize("lost, kept", [("m.txt", "v.json"), ("v.json", "m.txt")])
def test_half_a_tokenizer_is_completed_by_the_captions_it_is_of_and_refused_for_others(tmp_path, lost, kept):
    settings = tiny_settings(VOCAB_PATH=str(tmp_path / "v.json"), MERGES_PATH=str(tmp_path / "m.txt"))
    whole = build_tokenizer(settings, CAPTIONS).hash
    (tmp_path / lost).unlink()
    with pytest.raises(UserError, match="partner"):
        build_tokenizer(settings, ["words of another dataset altogether"])
    assert not (tmp_path / lost).exists() and (tmp_path / kept).exists()
    assert build_tokenizer(settings, CAPTIONS).hash == whole


@pytest.mark.parametrize("damage", ["{", json.dumps({"<pad>": 0}), json.dumps(dict.fromkeys(SPECIAL_TOKENS, 9))])
def test_a_damaged_vocabulary_is_one_clear_error(tmp_path, damage):
    tiny_tokenizer().save(tmp_path / "vocab.json", tmp_path / "merges.txt")
    (tmp_path / "vocab.json").write_text(damage)
    with pytest.raises(UserError, match="vocab.json"):
        CaptionTokenizer.load(tmp_path / "vocab.json", tmp_path / "merges.txt", True)


def test_the_hash_tells_vocabularies_and_casing_apart():
    tokenizer = tiny_tokenizer()
    assert CaptionTokenizer.from_dict(tokenizer.to_dict()).hash == tokenizer.hash
    others = [train_tokenizer(CAPTIONS, 290, 1, True), CaptionTokenizer(tokenizer.vocab, tokenizer.merges, False)]
    assert tokenizer.hash not in [other.hash for other in others]
