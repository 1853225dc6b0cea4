"""Captions files that would lose or garble captions: read right, or one line that names the file and the line."""

import json
import os

import pytest
from own_folder import make_own_folder
from PIL import Image
from test_prepare import prepare, settings_for

from basics.errors import UserError
from sources.prepared import read_prepared
from sources.reading import read_captions


@pytest.fixture
def raw_dir(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        Image.new("RGB", (4, 4)).save(folder / name)
    return folder


def read(raw_dir):
    return read_captions(raw_dir, raw_dir.parent / "data")


def refusal(raw_dir) -> str:
    with pytest.raises(UserError) as caught:
        read(raw_dir)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize(
    "content, line",
    [
        ('image,caption\na.jpg,"A dog\nb.jpg,A cat\nc.jpg,A 6"\n', 2),  # which would close it
        ('image,caption\na.jpg,A dog\nb.jpg,"A cat\nc.jpg,A bird\n', 3),
        ('image,caption\na.jpg,"A" dog\n', 2),
        ('image,caption\na.jpg,"A dog\nruns."\nb.jpg,"A cat\n', 4),
        ('caption,image\n"A dog,a.jpg\nA cat,b.jpg\nA 6",c.jpg\n', 2),
        ("caption,image\nA dog, running,a.jpg\n", 2),
    ],
)
def test_a_quote_or_comma_that_swallows_is_refused_with_its_line(raw_dir, content, line):
    (raw_dir / "captions.csv").write_text(content)
    assert refusal(raw_dir).startswith(f"{raw_dir / 'captions.csv'}, line {line}: ")


@pytest.mark.parametrize(
    "name, content",
    [
        ("captions.csv", 'image,caption\na.jpg,"A dog\nruns, ""fast""."\nb.jpg,A "cat"\n'),
        ("captions.tsv", 'image\tcaption\na.jpg\t"A dog runs, ""fast""."\nb.jpg\tA "cat"\n'),
        (
            "captions.jsonl",
            '{"image": "a.jpg", "caption": "A dog\u2028runs, \\"fast\\"."}\r\n'
            '{"image": "b.jpg", "captions": "A \\"cat\\""}',
        ),
    ],
)
def test_quotes_line_breaks_and_a_caption_alone_are_read_right(raw_dir, name, content):
    (raw_dir / name).write_bytes(content.encode())
    assert read(raw_dir).captions == {"a.jpg": ['A dog runs, "fast".'], "b.jpg": ['A "cat"']}


def test_a_quote_that_begins_a_caption_between_tabs_swallows_nothing(raw_dir):
    (raw_dir / "captions.tsv").write_text('image\tcaption\na.jpg\t"A dog\nb.jpg\tA cat\nc.jpg\tA "bird"\n')
    assert read(raw_dir).captions == {"a.jpg": ['"A dog'], "b.jpg": ["A cat"], "c.jpg": ['A "bird"']}


@pytest.mark.parametrize(
    "row, part",
    [
        ({"image": "a.jpg", "captions": [3]}, "expected text as caption, got 3"),
        ({"image": 3, "caption": "A dog"}, "expected text as image, got 3"),
        ({"image": "a.jpg", "captions": {"en": "A dog"}}, "a caption or a list"),
        ({"image": "a.jpg", "caption": "A \ud83d dog"}, "half a character"),
        ({"image": "\udce9.jpg", "caption": "A dog"}, "half a character"),
        ({"image": "a.jpg", "caption": "A dog", "split": ["train"]}, "unknown split"),
        ([], "expected"),
        ("A dog", "expected"),
    ],
)
def test_a_wrong_type_is_named_with_its_line(raw_dir, row, part):
    (raw_dir / "captions.jsonl").write_text('{"image": "b.jpg", "caption": "A cat"}\n\n' + json.dumps(row))
    message = refusal(raw_dir)
    assert message.startswith(f"{raw_dir / 'captions.jsonl'}, line 3: ") and part in message


@pytest.mark.parametrize("name", ["captions.jsonl", "dataset_x.json", "captions_train2017.json"])
def test_json_of_a_great_depth_is_refused(raw_dir, name):
    (raw_dir / name).write_text("[" * 100_000)
    assert "is nested too deeply" in refusal(raw_dir) and name in refusal(raw_dir)


@pytest.mark.parametrize(
    "name", ["captions.csv", "captions.jsonl", "dataset_x.json", "results.csv", "Flickr8k.token.txt"]
)
def test_a_pipe_for_a_captions_file_is_not_waited_for(raw_dir, name):
    os.mkfifo(raw_dir / name)
    assert refusal(raw_dir) == f"{raw_dir / name} is a pipe, expected a file"


@pytest.mark.parametrize("name", ["flickr_annotations_30k.csv", "captions.csv", "captions.tsv", "captions.jsonl"])
def test_an_empty_captions_file_is_refused(raw_dir, name):
    (raw_dir / name).write_text("")
    assert name in refusal(raw_dir)


def test_captions_of_the_hubs_flickr30k_may_be_one(raw_dir):
    (raw_dir / "flickr_annotations_30k.csv").write_text('raw,split,filename\n"""A dog""",train,a.jpg\n[3],val,b.jpg\n')
    assert "line 3: expected text as caption" in refusal(raw_dir)


def test_a_picture_in_several_splits_stays_in_the_one_looked_at_last_and_is_said(raw_dir):
    rows = ["a.jpg,One,test", "a.jpg,Two,train", "b.jpg,Three,train", "b.jpg,Four,val", "c.jpg,Five,train"]
    (raw_dir / "captions.csv").write_text("image,caption,split\n" + "\n".join(rows))
    raw = read(raw_dir)
    assert raw.splits == {"train": ["c.jpg"], "val": ["b.jpg"], "test": ["a.jpg"]}
    assert [note for note in raw.notes if note.startswith("2 pictures stand in more than one split")]


@pytest.mark.parametrize("name", ["../out.jpg", "/{tmp}/out.jpg", "x/../../out.jpg", "./../out.jpg"])
def test_a_name_that_leads_out_of_the_folder_is_refused(raw_dir, name):
    Image.new("RGB", (4, 4)).save(raw_dir.parent / "out.jpg")
    name = name.format(tmp=raw_dir.parent)
    (raw_dir / "captions.csv").write_text(f"image,caption\na.jpg,A dog\n{name},A cat\n")
    assert name in refusal(raw_dir) and "outside" in refusal(raw_dir)


def test_links_lead_anywhere_and_names_within_the_folder_stay(raw_dir):
    elsewhere = raw_dir.rename(raw_dir.parent / "elsewhere")
    raw_dir.mkdir()
    (raw_dir / "pictures").symlink_to(elsewhere)
    (raw_dir / "b.jpg").symlink_to(elsewhere / "b.jpg")
    (raw_dir / "captions.csv").write_text(
        f"image,caption\npictures/a.jpg,A dog\nx/../b.jpg,A cat\n{raw_dir}/b.jpg,Cats\n"
    )
    assert len(read(raw_dir).captions) == 3


def test_texts_whose_names_cannot_be_written_are_left_out_and_said(raw_dir):
    for name in (b"caf\xe9", b"two\nlines"):
        Image.new("RGB", (4, 4)).save(raw_dir / os.fsdecode(name + b".jpg"))
        (raw_dir / os.fsdecode(name + b".txt")).write_text("A dog")
    raw = read(raw_dir)
    assert raw.captions == {"two\nlines.jpg": ["A dog"]}
    assert [note for note in raw.notes if r"caf\udce9.txt" in note and note.isprintable()]


def test_a_bad_picture_is_one_line_of_the_list_whatever_its_name(tmp_path):
    own = make_own_folder(tmp_path / "raw")
    (own / "two\nlines.png").symlink_to("gone")
    with open(own / "captions.csv", "a") as file:
        file.write('"two\nlines.png",A dog\n')
    settings = settings_for(own, BAD_IMAGE_LIMIT=0.5)
    prepare(settings)
    [line] = (settings.data_path / "bad_images.txt").read_text().splitlines()
    assert line.startswith("two\\nlines.png\t") and line.endswith("it is a link to what is gone")


@pytest.mark.parametrize(
    "name, content",
    [
        ("captions.json", {"a.png": "A dog"}),
        ("captions.json", {"a.png": [3]}),
        ("captions.json", {"a.png": ["\ud800"]}),
        ("captions.json", []),
        ("splits.json", {"train": None}),
        ("splits.json", {"train": [["a.png"]]}),
        ("dataset.json", None),
        ("dataset.json", {"image_dir": 3}),
        ("dataset.json", {"image_dir": ["x"]}),
    ],
)
def test_prepared_files_of_other_types_are_damaged(tmp_path, name, content):
    whole = {
        "captions.json": {"a.png": ["A dog"]},
        "splits.json": {"train": ["a.png"]},
        "dataset.json": {"image_dir": "."},
    }
    for each, good in whole.items():
        (tmp_path / each).write_text(json.dumps(good))
    assert read_prepared(tmp_path).captions == whole["captions.json"]
    for text in (json.dumps(content), "[" * 100_000):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=f"{name} is damaged"):
            read_prepared(tmp_path)
