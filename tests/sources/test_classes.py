"""Labelled pictures: class folders and tables read and split, and what is odd in them said in one line."""

import io
import json
import re
import shutil
import tarfile
import zipfile

import pytest
from class_folders import make_class_folders
from tiny import tiny_settings

import write_shards
from basics.errors import UserError
from basics.settings import SettingsError
from sources.classes.kind import Classes, classes_of
from sources.pictures import split_pictures
from sources.prepare import prepare
from sources.prepared import read_prepared
from sources.shapes import draw_single_shapes


def settings_of(raw, **changes):
    values = dict(TASK="classify", DATASET="folder", RAW_DIR=str(raw), DATA_DIR=str(raw.parent / "data"))
    return tiny_settings(**{**values, "VAL_FRACTION": 0.3, "TEST_FRACTION": 0.2, **changes})


def made(raw, **changes):
    settings = settings_of(raw, **changes)
    return prepare(settings, Classes(settings.DATASET))


def notes_of(raw) -> str:
    return "\n".join(manifest_of(raw)["notes"])


def manifest_of(raw) -> dict:
    return json.loads((raw.parent / "data/folder-classify/dataset.json").read_text())


def refusal(raw, **changes) -> str:
    with pytest.raises(UserError) as caught:
        made(raw, **changes)
    assert str(caught.value).isprintable()
    return str(caught.value)


def sizes(data) -> dict[str, int]:
    return {split: len(names) for split, names in data.splits.items()}


@pytest.fixture
def tree(tmp_path):
    """One tree, without splits."""
    return make_class_folders(tmp_path / "raw", {"cat": 20, "großer Hund": 20})


@pytest.mark.parametrize("val", ["val", "valid", "validation", "dev", "Val"])
def test_folders_of_splits_are_the_splits(tmp_path, val):
    raw = make_class_folders(tmp_path / "raw", {f"{s}/{c}": n for s, n in (("train", 3), (val, 2)) for c in "ab"})
    data = made(raw)
    assert sizes(data) == {"train": 6, "val": 4, "test": 0}
    assert data.captions["train/a/0.png"] == ["a"] and classes_of(data) == ["a", "b"]


def test_validation_is_held_out_of_train_where_only_a_test_is_there(tmp_path):
    raw = make_class_folders(tmp_path / "raw", {"train/a": 20, "train/b": 20, "test/a": 2, "test/b": 2})
    data = made(raw)
    assert sizes(data)["test"] == 4 and sizes(data)["val"] > 0 and sum(sizes(data).values()) == 44
    assert all(name.startswith("train/") for name in data.splits["val"])


def test_the_same_file_never_stands_in_two_splits_of_one_tree(tree):
    for number in range(20):
        shutil.copy(tree / f"cat/{number}.png", tree / f"cat/again {number}.png")
    data = made(tree)
    split_of = {name: split for split, names in data.splits.items() for name in names}
    assert {*split_of.values()} == {"train", "val", "test"}
    assert all(split_of[f"cat/{n}.png"] == split_of[f"cat/again {n}.png"] for n in range(20))


def test_classes_are_listed_and_kept_apart_from_captions(tree):
    data = made(tree)
    assert manifest_of(tree)["classes"] == classes_of(data) == ["cat", "großer Hund"]
    assert read_prepared(tree.parent / "data/folder-classify").captions == data.captions


def test_repeating_it_changes_nothing_and_a_new_picture_is_noticed(tree, capsys):
    before = sizes(made(tree))
    capsys.readouterr()
    made(tree)
    assert "is prepared" in capsys.readouterr().out
    make_class_folders(tree, {"bird": 1}, first=300)
    assert sum(sizes(made(tree)).values()) == sum(before.values()) + 1


def test_what_is_no_picture_is_counted_and_said(tree):
    (tree / "cat/.DS_Store").touch()
    (tree / "cat/notes.heic").touch()
    (tree / "README.md").touch()
    (tree / "empty").mkdir()
    made(tree)
    for part in (
        "1 hidden files: not read, cat/.DS_Store",
        "1 files that are no pictures by their suffix: not read, cat/notes.heic",
        "1 files outside of the class folders: not read, README.md",
        "1 class folders without a picture: not read, empty/",
    ):
        assert part in notes_of(tree)


def test_pictures_at_any_depth_belong_to_the_class_above_and_a_folder_around_all_is_none(tmp_path):
    make_class_folders(tmp_path / "raw/pets/photos", {"cat/persian": 10, "cat": 10, "dog": 20, "": 1})
    assert {*map(tuple, made(tmp_path / "raw").captions.values())} == {("cat",), ("dog",)}


def test_a_class_may_be_called_train(tmp_path):
    raw = make_class_folders(tmp_path / "raw", {"train": 20, "bus": 20})
    assert classes_of(made(raw)) == ["bus", "train"]


def test_class_folders_in_an_archive_are_read(tree):
    with zipfile.ZipFile(tree / "pets.zip", "w") as archive:
        for picture in tree.glob("*/*.png"):
            archive.write(picture, f"pets/{picture.relative_to(tree)}")
    for name in ("cat", "großer Hund"):
        shutil.rmtree(tree / name)
    assert len(made(tree).captions) == 40
    shutil.copy(tree / "pets.zip", tree / "more.zip")
    assert "holds 2 archives" in refusal(tree, DATA_DIR=str(tree.parent / "other"))


def test_an_empty_folder_is_said_to_hold_nothing(tmp_path):
    (tmp_path / "raw").mkdir()
    assert "which holds nothing; expected a folder a class" in refusal(tmp_path / "raw")


def test_where_no_classes_are_found_it_says_what_is_there_and_what_was_looked_for(tmp_path):
    raw = make_class_folders(tmp_path / "raw", {"": 2})
    (raw / "list.csv").write_text("picture,species\n")
    message = refusal(raw)
    for part in ("0.png", "cat/1.jpg", "train/", "labels.csv", "cifar-10-batches-py", "list.csv has no columns"):
        assert part in message


def test_one_class_is_refused(tmp_path):
    assert "of one class, photos" in refusal(make_class_folders(tmp_path / "raw", {"photos": 20}))


def test_what_cannot_be_learned_or_validated_is_said(tmp_path):
    counts = {"train/a": 22, "train/b": 2, "train/B ": 2, "val/a": 1, "val/c": 1}
    made(make_class_folders(tmp_path / "raw", counts))
    for part in (
        "1 classes have no training pictures and cannot be learned: c",
        "2 classes have no validation pictures: B , b",
        "a long tail: a has 22 training pictures",
        "'B ', 'b' differ only by case or spaces",
    ):
        assert part in notes_of(tmp_path / "raw")


def test_the_same_picture_in_two_splits_or_classes_is_counted(tmp_path, capsys):
    raw = make_class_folders(tmp_path / "raw", {"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1})
    shutil.copy(raw / "train/a/0.png", raw / "val/a/0.png")
    shutil.copy(raw / "train/a/1.png", raw / "train/b/1.png")
    made(raw)
    assert "1 pictures stand in more than one split, for example train/a/0.png" in capsys.readouterr().out
    assert "1 pictures stand under more than one class, for example train/a/1.png and train/b/1.png" in notes_of(raw)


def test_unreadable_pictures_count_as_they_do_with_captions(tree):
    (tree / "cat/3.png").write_bytes(b"broken")
    assert "1 of 40 images" in refusal(tree)
    assert len(made(tree, BAD_IMAGE_LIMIT=0.1).captions) == 39


def table(tree, text, name="labels.csv"):
    (tree / name).write_text(text, encoding="utf-8")
    return tree


def test_a_table_names_pictures_classes_and_splits(tree):
    rows = [f"cat/{n}.png,{'tabby cat' if n % 2 else 'persian'},{'valid' if n < 4 else 'train'}" for n in range(20)]
    data = made(table(tree, "filename,category,split\n" + "\n".join(rows) + "\n"))
    assert sizes(data) == {"train": 16, "val": 4, "test": 0} and classes_of(data) == ["persian", "tabby cat"]


def test_a_table_a_split_is_read_as_such(tree):
    for name, start, stop in (("train.tsv", 0, 12), ("val.tsv", 12, 20)):
        table(tree, "image\tlabel\n" + "".join(f"cat/{n}.png\t{n % 3}\n" for n in range(start, stop)), name)
    assert sizes(made(tree)) == {"train": 12, "val": 8, "test": 0}


@pytest.mark.parametrize(
    "text, said",
    [
        ("image,label\ncat/0.png,a\ncat/1.png,b\ncat/0.png,b\n", r"line 4: cat/0.png is 'b' here and 'a' in .*line 2"),
        ("image,label\ncat/0.png,a,b\n", "line 2: 3 columns, expected 2"),
        ("image,label,split\ncat/0.png,a,later\n", "line 2: unknown split 'later'"),
        ("image,label\n,a\n", "line 2: no picture is named"),
        ("image,label\ncat/0.png,\n", "holds no pictures with a class"),
        ("image,label\n../../x.png,a\ncat/0.png,b\n", "outside of"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused_with_its_line(tree, text, said):
    assert re.search(said, refusal(table(tree, text)))


def test_several_tables_are_not_guessed_between(tree):
    for name in ("mine.csv", "yours.csv"):
        table(tree, "image,label\n", name)
    assert "several tables of classes, mine.csv, yours.csv" in refusal(tree)


def test_a_raw_folder_is_scored_as_the_task_reads_it(tmp_path):
    raw = make_class_folders(tmp_path / "raw", {"train/a": 2, "train/b": 1, "test/a": 1, "test/b": 1})
    pictures = split_pictures(str(raw), "test", settings_of(raw))
    assert pictures.references == [["a"], ["b"]] and len(pictures.paths) == 2


def test_captioned_pictures_are_no_data_for_a_classifier(tmp_path):
    data = tmp_path / "data/folder"
    data.mkdir(parents=True)
    (tmp_path / "0.png").touch()
    for name, content in {
        "captions": {"0.png": ["a cat", "it sits"]},
        "splits": {"test": ["0.png"]},
        "dataset": {"image_dir": str(tmp_path)},
    }.items():
        (data / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="is no data of TASK 'classify': a picture has 2 texts, expected one class"):
        split_pictures(str(data), "test", settings_of(tmp_path))


def test_one_shape_a_picture_is_drawn_the_same_each_time(tmp_path):
    few, many = (draw_single_shapes(tmp_path / str(count), count, seed=1) for count in (30, 60))
    assert all(many[name] == few[name] and len(few[name]) == 1 for name in few)
    assert all((tmp_path / "60" / name).read_bytes() == (tmp_path / "30" / name).read_bytes() for name in few)
    assert len({label for (label,) in many.values()}) == 15


@pytest.mark.parametrize("task, dataset, fitting", [("classify", "coco", "cifar10"), ("caption", "cifar10", "coco")])
def test_a_dataset_of_another_task_is_one_clear_line(task, dataset, fitting):
    with pytest.raises(SettingsError, match=rf"DATASET must be one of .*{fitting}.* with TASK '{task}'"):
        tiny_settings(TASK=task, DATASET=dataset)


def shard(folder, members):
    folder.mkdir()
    with tarfile.open(folder / "train-000000.tar", "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return folder


def test_shards_hold_a_class_a_picture_as_text_or_number(tmp_path):
    members = {}
    for number in range(30):
        picture = make_class_folders(tmp_path / "pictures", {"": 1}, first=number) / "0.png"
        text = {"cls": str(number % 3)} if number % 2 else {"txt": "a cat"}
        members[f"{number}.png"] = picture.read_bytes()
        members |= {f"{number}.{kind}": content.encode() for kind, content in text.items()}
    members |= {"many.png": members["0.png"], "many.txt": b"a cat\na dog"}
    data = made(shard(tmp_path / "raw", members), DATASET="webdataset", BAD_IMAGE_LIMIT=0.1)
    assert classes_of(data) == ["0", "1", "2", "a cat"] and len(data.split("val")) and len(data.split("train"))
    folder = tmp_path / "data/webdataset-classify"
    assert "2 texts, expected one class" in (folder / "bad_images.txt").read_text()
    assert json.loads((folder / "dataset.json").read_text())["classes"] == classes_of(data)


def test_class_folders_come_back_from_shards(tree):
    data = made(tree)
    write_shards.main(
        ["--data-dir", str(tree.parent / "data/folder-classify"), "--output", str(tree.parent / "shards")]
    )
    again = made(tree, DATASET="webdataset", RAW_DIR=None, SHARDS=str(tree.parent / "shards"))
    for split in ("train", "val", "test"):
        assert [*again.split(split).references] == [*data.split(split).references]
