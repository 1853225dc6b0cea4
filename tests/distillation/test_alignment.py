"""Alignment of two tokenizers over a caption, and the projection counted from it."""

import pytest
import torch
from tiny import CAPTIONS
from transformers import BertTokenizer

from distillation.alignment import Projection, align, target_starts
from networks.git import train_wordpiece
from tokenizer import train_tokenizer

TEXTS = [
    "a dog catches a frisbee",
    "two well-known dogs",
    "a café in rené's street",
    "3 dogs and 10 cats",
    "a dog 🐕 runs",
    "two  spaces and a tab\there",
    "",
    " ",
    ".",
    "it can't be: a 'quote'...",
    "A DOG in capitals",
    "skateboarders",
]
WORDS = "a dog dogs catches two well - known 3 10 cats and in street runs capitals fris ##bee skate ##board ##ers . '"


@pytest.fixture(scope="module")
def ours():
    return train_tokenizer([*TEXTS, *CAPTIONS], 330, 1, lowercase=True)


@pytest.fixture(scope="module")
def theirs():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(WORDS.split())]
    return BertTokenizer(vocab={word: i for i, word in enumerate(words)})


def starts_of(text, tokenizer):
    found = tokenizer(text, return_offsets_mapping=True)
    pieces = tokenizer.convert_ids_to_tokens(found["input_ids"])[1:-1]
    return target_starts(text, found["offset_mapping"][1:-1], [piece.startswith("##") for piece in pieces])


@pytest.mark.parametrize("text", TEXTS)
def test_aligned_targets_follow_the_same_text_in_the_same_order(ours, theirs, text):
    mine, other = target_starts(text, ours.offsets(text)), starts_of(text, theirs)
    places = align(mine, other)
    assert len(places) == len(ours.encode(text)) - 1
    assert places[-1] == len(other) - 1  # both end
    kept = [place for place in places if place >= 0]
    assert kept == sorted(set(kept))
    for start, place in zip(mine, places):
        if place >= 0:
            assert text[:start].split() == text[: other[place]].split()


def test_a_word_that_the_student_splits_is_supervised_at_its_first_piece_alone(theirs):
    letters = train_tokenizer(["x"], 260, 1, lowercase=True)  # every byte a token
    text = "a dog"
    places = align(target_starts(text, letters.offsets(text)), starts_of(text, theirs))
    assert [place for place in places if place >= 0] == [0, 1, 2]
    assert len(places) > 3


def test_a_word_that_the_teacher_splits_is_aligned_with_its_first_piece(ours, theirs):
    text = "a frisbee"
    found = theirs(text)["input_ids"]
    assert theirs.convert_ids_to_tokens(found)[1:-1] == ["a", "fris", "##bee"]
    assert list(align([0, 2, len(text) + 1], starts_of(text, theirs))) == [0, 1, 3]


def test_an_emoji_of_several_bytes_is_one_place(ours):
    text = "🐕"
    mine = target_starts(text, ours.offsets(text))
    assert sum(place >= 0 for place in align(mine, mine)) == len(set(mine)) == 2


def pairs_of(texts, ours, theirs):
    for text in texts:
        own, other = ours.encode(text), theirs(text)["input_ids"]
        for i, place in enumerate(align(target_starts(text, ours.offsets(text)), starts_of(text, theirs))):
            if place >= 0:
                yield other[place + 1], own[i + 1]


def test_rows_of_the_projection_sum_to_one_and_the_end_maps_to_the_end(ours):
    theirs = train_wordpiece(CAPTIONS, 80)
    projection = Projection.count(pairs_of(CAPTIONS, ours, theirs), len(ours))
    whole = projection(torch.eye(len(theirs)))
    seen = projection.entries[0].unique()
    torch.testing.assert_close(whole.sum(1)[seen], torch.ones(len(seen)))
    assert whole.sum() == pytest.approx(len(seen))  # all other rows are empty
    assert whole[theirs.sep_token_id, ours.end_id] == 1


def test_mass_is_moved_and_never_made(ours):
    theirs = train_wordpiece(CAPTIONS, 80)
    projection = Projection.count(pairs_of(CAPTIONS, ours, theirs), len(ours))
    probs = torch.rand(5, len(theirs)).softmax(-1)
    known = probs[:, projection.entries[0].unique()].sum(1)
    torch.testing.assert_close(projection(probs).sum(1), known)


def test_the_same_vocabulary_is_projected_to_itself():
    probs = torch.rand(3, 7).softmax(-1)
    assert Projection.identity(7)(probs) is probs
    counted = Projection.count([(i, i) for i in range(7)], 7)
    torch.testing.assert_close(counted(probs), probs)
