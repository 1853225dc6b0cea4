"""Every raw form is recognised by looking and read with its quirks."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from basics.errors import UserError
from sources import forms
from sources.forms.registry import FORMS
from sources.raw_captions import clean_caption
from sources.reading import read_captions


def pictures(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / name)


@pytest.fixture
def raw_dir(tmp_path):
    folder = tmp_path / "raw"
    pictures(folder / "Images", "a.jpg", "b.jpg", "c.jpg")
    return folder


def read(raw_dir):
    return read_captions(raw_dir, raw_dir.parent / "data")


def test_every_file_of_a_form_stands_in_the_registry():
    files = {path.stem for path in Path(forms.__file__).parent.glob("*.py")} - {"__init__", "registry"}
    assert {form.read.__module__.rpartition(".")[2] for form in FORMS} == files


def test_flickr8k_as_shipped_with_its_split_lists(raw_dir):
    (raw_dir / "Flickr8k.token.txt").write_text(
        "a.jpg#0\tA dog runs .\na.jpg#1\tA  dog .\nb.jpg#0\tCats\nc.jpg.1#0\tx\n"
    )
    (raw_dir / "Flickr_8k.trainImages.txt").write_text("a.jpg\n")
    (raw_dir / "Flickr_8k.devImages.txt").write_text("b.jpg\n")
    raw = read(raw_dir)
    assert raw.captions == {"a.jpg": ["A dog runs.", "A dog."], "b.jpg": ["Cats"], "c.jpg.1": ["x"]}
    assert raw.splits == {"train": ["a.jpg"], "val": ["b.jpg"]} and raw.image_dir == raw_dir / "Images"


def test_flickr30k_as_shipped(raw_dir):
    (raw_dir / "results_20130124.token").write_text("a.jpg#0\tTwo men .\nb.jpg#0\tA man .\n")
    assert read(raw_dir).captions == {"a.jpg": ["Two men."], "b.jpg": ["A man."]}


def test_kaggle_flickr8k_with_commas_in_captions(raw_dir):
    (raw_dir / "captions.txt").write_text('image,caption\na.jpg,"A dog , running ."\na.jpg,One , two\nb.jpg,A cat\n')
    assert read(raw_dir).captions == {"a.jpg": ["A dog, running.", "One, two"], "b.jpg": ["A cat"]}


def test_the_broken_row_of_kaggles_flickr30k_is_kept(raw_dir):
    (raw_dir / "results.csv").write_text(
        "image_name| comment_number| comment\na.jpg| 0| Two men .\nb.jpg| 4   A dog runs across the grass .\n"
    )
    raw = read(raw_dir)
    assert raw.captions["b.jpg"] == ["A dog runs across the grass."] and "line 3 repaired" in raw.notes[0]


def test_karpathys_json_sends_restval_to_train(raw_dir):
    pictures(raw_dir, "val2014/x.jpg", "val2014/y.jpg")
    images = [
        {"filename": name, "filepath": "val2014", "split": split, "sentences": [{"raw": "A man ."}, {"raw": "Men"}]}
        for name, split in (("x.jpg", "restval"), ("y.jpg", "test"))
    ]
    (raw_dir / "dataset_coco.json").write_text(json.dumps({"images": images}))
    raw = read(raw_dir)
    assert raw.splits == {"train": ["val2014/x.jpg"], "test": ["val2014/y.jpg"]}
    assert raw.captions["val2014/x.jpg"] == ["A man.", "Men"] and raw.image_dir == raw_dir


def test_coco_captions_keep_their_official_split(raw_dir):
    pictures(raw_dir, "train2017/1.jpg", "val2017/2.jpg")
    for part, number in (("train2017", 1), ("val2017", 2)):
        content = {
            "images": [{"id": number, "file_name": f"{number}.jpg"}],
            "annotations": [{"image_id": number, "caption": "A bus."}, {"image_id": number, "caption": " "}],
        }
        (raw_dir / "annotations").mkdir(exist_ok=True)
        (raw_dir / "annotations" / f"captions_{part}.json").write_text(json.dumps(content))
    raw = read(raw_dir)
    assert raw.splits == {"train": ["train2017/1.jpg"], "val": ["val2017/2.jpg"]}
    assert raw.captions == {"train2017/1.jpg": ["A bus."], "val2017/2.jpg": ["A bus."]}


def test_flickr30k_of_the_hub(raw_dir):
    with open(raw_dir / "flickr_annotations_30k.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["raw", "sentids", "split", "filename", "img_id"])
        writer.writerow([json.dumps(["Two men .", 'A "quoted", man']), "[0, 1]", "train", "a.jpg", "0"])
        writer.writerow([json.dumps(["A dog"]), "[2]", "val", "b.jpg", "1"])
    raw = read(raw_dir)
    assert raw.captions == {"a.jpg": ["Two men.", 'A "quoted", man'], "b.jpg": ["A dog"]}
    assert raw.splits == {"train": ["a.jpg"], "val": ["b.jpg"]}


@pytest.mark.parametrize(
    "name, content",
    [
        ("captions.csv", "image,caption\na.jpg,A dog\nb.jpg,A cat\n"),
        ("captions.csv", "\ufefffile_name,text\na.jpg,A dog\nb.jpg,A cat\n"),  # as spreadsheet programs save it
        ("captions.tsv", "caption\timage\nA dog\ta.jpg\nA cat\tb.jpg\n"),
        ("captions.jsonl", '{"image": "a.jpg", "caption": "A dog"}\n\n{"file_name": "b.jpg", "text": "A cat"}\n'),
        ("captions.jsonl", '{"image": "a.jpg", "captions": ["A dog"]}\n{"image": "b.jpg", "captions": ["A cat"]}\n'),
    ],
)
def test_an_own_folder(raw_dir, name, content):
    (raw_dir / name).write_text(content, encoding="utf-8")
    assert read(raw_dir).captions == {"a.jpg": ["A dog"], "b.jpg": ["A cat"]}


def test_an_own_folder_with_a_text_file_a_picture(tmp_path):
    pictures(tmp_path / "raw", "a.jpg", "b.png", "c.jpg")
    (tmp_path / "raw/a.txt").write_text("A dog\nA brown dog\n")
    (tmp_path / "raw/b.txt").write_text("A cat\n")
    assert read(tmp_path / "raw").captions == {"a.jpg": ["A dog", "A brown dog"], "b.png": ["A cat"]}


def test_a_split_column_is_used(raw_dir):
    (raw_dir / "captions.csv").write_text("image,caption,split\na.jpg,A dog,train\nb.jpg,A cat,val\n")
    assert read(raw_dir).splits == {"train": ["a.jpg"], "val": ["b.jpg"]}


def test_spaces_before_punctuation_go_and_those_between_words_stay_single():
    assert clean_caption(" A dog ,\ta  cat  .\n") == "A dog, a cat." and clean_caption("at .5 mph") == "at .5 mph"


@pytest.mark.parametrize(
    "name, content, part",
    [
        ("Flickr8k.token.txt", "a.jpg#0 no tab\n", "line 1"),
        ("captions.csv", "picture,words\na.jpg,A dog\n", "image or file_name"),
        ("captions.csv", "image,caption\na.jpg\n", "line 2"),
        ("captions.jsonl", '{"image": "a.jpg"}\n', "line 1"),
        ("dataset_x.json", "{", "dataset_x.json"),
        ("captions.jsonl", '{"image": "a.jpg", "caption": 3}\n', "captions.jsonl"),
        ("results.csv", "image_name| comment_number| comment\na.jpg\n", "line 2"),
        ("captions.csv", "image,caption\nz.jpg,A dog\n", "z.jpg first"),
        ("captions.csv", "image,caption,split\na.jpg,A dog,exam\n", "exam"),
        ("notes.md", "hello", "expected one of"),
    ],
)
def test_what_cannot_be_read_is_one_error_with_the_place(raw_dir, name, content, part):
    (raw_dir / name).write_text(content)
    with pytest.raises(UserError) as caught:
        read(raw_dir)
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_utf8_is_named_with_its_line(raw_dir):
    (raw_dir / "captions.csv").write_bytes(b"image,caption\na.jpg,caf\xe9\n")
    with pytest.raises(UserError, match="line 2: not UTF-8"):
        read(raw_dir)
