"""Names and captions of a folder's pictures in mapped files are those of captions.json, whatever becomes of it."""

import json

import pytest
from tiny import tiny_settings, tiny_tokenizer

from sources import texts_on_disk as module
from sources.captions import Captions
from sources.prepare import prepare
from sources.prepared import PreparedData, read_prepared
from sources.texts_on_disk import MappedData, texts_on_disk

CAPTIONS = {"a b.jpg": ["A dog.", "Ein Hündchen 🐕"], "sub/c.png": ["One"], "two\nlines.jpg": ["x"] * 3, "d.jpg": ["y"]}
SPLITS = {"train": ["two\nlines.jpg", "a b.jpg"], "val": ["sub/c.png"], "test": []}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in CAPTIONS:
        (tmp_path / name).write_bytes(name.encode())
    write(tmp_path, CAPTIONS)
    return tmp_path


def write(folder, captions):
    contents = {"captions": captions, "splits": SPLITS, "dataset": {"image_dir": "."}}
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def mapped(folder):
    return texts_on_disk(read_prepared(folder), folder)


def test_a_split_is_the_same_from_files_as_in_memory(folder):
    data, found = read_prepared(folder), mapped(folder)
    assert isinstance(found, MappedData)
    for name in SPLITS:
        split, other = data.split(name), found.split(name)
        assert [*other.names] == split.names and [*other.captions] == split.captions == [*found.captions_of(name)]
        assert [*other.references] == split.references and other.counts.tolist() == split.counts.tolist()
        assert len(other) == len(split) and other.shard_numbers is None
        assert [other.picture(i) for i in range(len(other))] == [split.picture(i) for i in range(len(split))]
        # caches and the checkpoints of runs made from what was in memory are still of the same pictures
        assert other.fingerprint() == split.fingerprint() and other.order_fingerprint() == split.order_fingerprint()


def test_a_second_start_reads_the_files(folder, monkeypatch):
    first = mapped(folder)
    monkeypatch.setattr(module, "write_texts", lambda *_: pytest.fail("written again"))
    assert mapped(folder) == first


def test_edited_captions_make_other_files(folder):
    before = mapped(folder)
    write(folder, {**CAPTIONS, "a b.jpg": ["A cat.", "Ein Hündchen 🐕"]})
    after = mapped(folder)
    assert after.split("train").references[1][0] == "A cat." and before.split("train").references[1][0] == "A dog."
    fingerprints = {data.split("train").captions_fingerprint() for data in (before, after)}
    assert len(fingerprints) == 2


@pytest.mark.parametrize("part, size", [("captions", 0), ("samples", 30), ("name_ends", 8), ("caption_ends", 3)])
def test_files_that_were_cut_are_written_anew(folder, part, size):
    found = mapped(folder)
    with open(found.folder / f"train.{part}", "r+b") as file:
        file.truncate(size)
    assert [*mapped(folder).split("train").references] == read_prepared(folder).split("train").references


def test_where_they_cannot_be_written_texts_stay_in_memory(folder, monkeypatch):
    monkeypatch.setattr(module, "write_texts", lambda *_: (_ for _ in ()).throw(PermissionError()))
    assert isinstance(mapped(folder), PreparedData)


def test_shards_are_mapped_already(tmp_path):
    shards = object()
    assert texts_on_disk(shards, tmp_path) is shards


def test_prepared_data_are_mapped_as_they_were_just_made(tmp_path):
    settings = tiny_settings(DATA_DIR=str(tmp_path))
    data = prepare(settings, Captions(lambda captions: tiny_tokenizer()))
    found = texts_on_disk(data, settings.data_path)
    assert [*found.captions_of("train")] == data.captions_of("train")
