"""Splits by image: the official ones, else hashes that adding pictures does not move."""

from pathlib import Path

import pytest
from tiny import tiny_settings

from basics.errors import UserError
from sources.raw_captions import RawCaptions
from sources.splits import hash_split, make_splits

NAMES = [f"{i}.jpg" for i in range(40)]


def raw_captions(**splits):
    return RawCaptions("a test", {name: ["a caption"] for name in NAMES}, splits, image_dir=Path())


def test_the_seed_and_the_fractions_decide_the_hashed_splits():
    names = [f"{i}.jpg" for i in range(4000)]
    splits = [hash_split(name, 1, 0.1, 0.2) for name in names]
    assert splits.count("val") == pytest.approx(400, abs=80) and splits.count("test") == pytest.approx(800, abs=110)
    assert splits != [hash_split(name, 2, 0.1, 0.2) for name in names]


def test_official_splits_stay_and_what_stands_in_none_is_left_out():
    official = {"train": NAMES[:20], "val": NAMES[20:30], "test": []}
    assert make_splits(raw_captions(**official), tiny_settings(VAL_FRACTION=0.3)) == official


def test_a_validation_split_that_did_not_come_is_held_out_of_train_alone():
    raw = raw_captions(train=NAMES[:30], test=NAMES[30:])
    splits = make_splits(raw, tiny_settings(VAL_FRACTION=0.3, TEST_FRACTION=0.3))
    assert splits["val"] and splits["test"] == NAMES[30:] and "held out of train" in raw.notes[0]
    assert sorted(splits["train"] + splits["val"]) == sorted(NAMES[:30])


def test_a_split_without_an_image_is_one_clear_error():
    with pytest.raises(UserError, match="val split of a test is empty"):
        make_splits(raw_captions(), tiny_settings(VAL_FRACTION=0.0))
