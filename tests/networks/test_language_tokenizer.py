"""A language model's tokenizer behind our door: its ids, its end, our cleaning."""

import json

import pytest
from language_models import END, FAMILIES, language_model, save_tokenizer, with_language_model
from tiny import CAPTIONS, tiny_settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from networks.language_tokenizer import LanguageTokenizer, load_language_tokenizer
from tokenizer import tokenizer_from_dict, tokenizer_of_folder


def tokenizer(family="gpt2", **changes) -> LanguageTokenizer:
    return load_language_tokenizer(tiny_settings(**with_language_model(family, **changes)))


@pytest.mark.parametrize("family", FAMILIES)
def test_captions_are_cut_as_the_model_cuts_them_in_the_middle_of_a_text(family):
    theirs, ours = AutoTokenizer.from_pretrained(language_model(family)), tokenizer(family)
    ids = ours.encode("A  small red\ncircle ")
    assert ids[1:-1] == theirs("of a small red circle", add_special_tokens=False).input_ids[1:]
    assert (ids[0], ids[-1]) == (ours.start_id, theirs.eos_token_id)
    assert ours.decode(ids) == ours.decode(ids[1:]) == "a small red circle"
    assert list(ours.encode_each(CAPTIONS)) == [ours.encode(caption) for caption in CAPTIONS]


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_is_neither_start_nor_end(family):
    ours = tokenizer(family)
    assert ours.pad_id not in (ours.start_id, ours.end_id)
    assert (ours.start_id == ours.end_id) == (family != "llama")  # which has a token for the start


def test_a_pad_token_that_is_the_end_is_not_taken(tmp_path):
    save_tokenizer(tmp_path, pad_token=END)
    ours = tokenizer(DECODER_MODEL_NAME=str(tmp_path))
    assert ours.pad_id != ours.end_id


def test_an_end_that_is_written_in_a_caption_is_plain_text():
    ours = tokenizer()
    ids = ours.encode(f"a {END} circle")
    assert ids.count(ours.end_id) == 2 and ours.decode(ids) == f"a {END} circle"  # first, as start, and last


def test_case_stays_where_it_shall():
    ours = tokenizer(LOWERCASE=False)
    assert ours.decode(ours.encode("A Dog")) == "A Dog" and ours.hash != tokenizer().hash


def test_offsets_are_those_of_the_caption_as_it_was_written():
    caption = "A  small red circle"
    texts = [caption[slice(*place)].strip().lower() for place in tokenizer().offsets(caption)]
    assert "".join(texts) == "asmallredcircle"


def test_pieces_that_carry_their_space_get_no_second_one(tmp_path):
    """As Llama 2 has it: the space before a word is put there by the tokenizer itself."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["<s>", "</s>"], show_progress=False)
    bpe.train_from_iterator([*CAPTIONS, "a dog"], trainer)
    PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>").save_pretrained(tmp_path)
    ours = tokenizer(DECODER_MODEL_NAME=str(tmp_path))
    ids = ours.encode("a small a")
    assert ids[1] == ids[-2] and ours.decode(ids) == "a small a"


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_stored_makes_the_same_without_the_model(tmp_path, family):
    ours = tokenizer(family)
    for name, text in ours.files().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    again = [tokenizer_of_folder(tmp_path, True), tokenizer_from_dict(json.loads(json.dumps(ours.to_dict())))]
    assert {each.hash for each in again} == {ours.hash} and len(again[0]) == len(ours)
    assert [each.encode(CAPTIONS[1]) for each in again] == [ours.encode(CAPTIONS[1])] * 2
    theirs = AutoTokenizer.from_pretrained(tmp_path)  # others may use it too
    assert theirs(CAPTIONS[1], add_special_tokens=False).input_ids == ours.encode(CAPTIONS[1])[1:-1]
