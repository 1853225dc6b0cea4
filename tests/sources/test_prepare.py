"""Preparing a dataset: splits by image, what is bad left out, archives, and never twice the same work."""

import json
import zipfile

import pytest
from own_folder import make_own_folder
from PIL import Image
from tiny import tiny_settings

from basics.errors import UserError
from sources import prepare as room
from sources.captions import Captions
from sources.prepared import read_prepared


class Words:
    """A tokenizer as far as the report asks for one: an id a word."""

    def encode_each(self, captions):
        return (list(range(len(caption.split()))) for caption in captions)


def prepare(settings):
    return room.prepare(settings, Captions(lambda captions: Words()))


@pytest.fixture
def own(tmp_path):
    return make_own_folder(tmp_path / "raw")


def settings_for(raw, **changes):
    values = dict(
        DATASET="folder", RAW_DIR=str(raw), DATA_DIR=str(raw.parent / "data"), VAL_FRACTION=0.2, TEST_FRACTION=0.2
    )
    return tiny_settings(**{**values, **changes})


def test_splits_are_by_image_and_complete(own):
    data = prepare(settings_for(own))
    names = [name for split in data.splits.values() for name in split]
    assert sorted(names) == sorted(data.captions) and len(set(names)) == 40
    assert all(len(data.splits[split]) > 0 for split in ("train", "val", "test"))


def test_splits_stay_the_same_when_files_are_added(own):
    before = prepare(settings_for(own)).splits
    Image.new("RGB", (8, 8)).save(own / "new.png")
    with open(own / "captions.csv", "a") as file:
        file.write("new.png,a new picture\n")
    after = prepare(settings_for(own)).splits  # notices the new line and prepares again
    assert {s: [n for n in names if n != "new.png"] for s, names in after.items()} == before
    assert sum(map(len, after.values())) == 41


def test_another_seed_of_training_moves_no_picture_between_splits(own):
    before = prepare(settings_for(own)).splits
    assert prepare(settings_for(own, SEED=7)).splits == before
    (own / "captions.csv").rename(own / "kept.csv")
    (own / "captions.csv").write_text("image,caption\ngone.png,none\n0.png,one\n" + "1.png,two\n2.png,three\n")
    with pytest.raises(UserError, match="BAD_IMAGE_LIMIT|split"):  # a failure must not forget the seed either
        prepare(settings_for(own, SEED=7, VAL_FRACTION=0.5))
    (own / "kept.csv").rename(own / "captions.csv")
    with open(own / "captions.csv", "a") as file:
        file.write("0.png,one caption more\n")
    assert prepare(settings_for(own, SEED=7)).splits == before


def test_repeating_it_changes_nothing(own, capsys):
    settings = settings_for(own)
    prepare(settings)
    before = {p: p.stat().st_mtime_ns for p in settings.data_path.iterdir()}
    capsys.readouterr()
    prepare(settings)
    assert {p: p.stat().st_mtime_ns for p in settings.data_path.iterdir()} == before
    assert "is prepared" in capsys.readouterr().out


def test_a_tokenizer_is_made_of_the_training_captions_and_only_where_data_is_made(own):
    asked = []
    for _ in range(2):
        data = room.prepare(settings_for(own), Captions(lambda captions: asked.append(captions) or Words()))
    assert asked == [data.captions_of("train")]


def test_prepared_data_serves_without_the_raw_folder_being_named(own):
    prepare(settings_for(own))
    assert prepare(settings_for(own, RAW_DIR=None)).captions == prepare(settings_for(own)).captions


def test_files_edited_by_hand_are_never_overwritten(own):
    settings = settings_for(own)
    prepare(settings)
    (settings.data_path / "captions.json").write_text('{"0.png": ["mine"]}')
    with pytest.raises(UserError, match="edited"):
        prepare(settings.replace(VAL_FRACTION=0.3))
    assert json.loads((settings.data_path / "captions.json").read_text()) == {"0.png": ["mine"]}


def test_half_prepared_data_does_not_count(own):
    settings = settings_for(own)
    whole = prepare(settings).splits
    (settings.data_path / "dataset.json").unlink()
    (settings.data_path / "splits.json").write_text("{}")
    assert prepare(settings).splits == whole


def test_bad_pictures_are_left_out_and_listed(own):
    (own / "3.png").write_bytes(b"broken")
    (own / "4.png").unlink()
    settings = settings_for(own, BAD_IMAGE_LIMIT=0.1)
    data = prepare(settings)
    listed = (settings.data_path / "bad_images.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == ["3.png", "4.png"]
    used = [name for names in data.splits.values() for name in names]
    assert {"3.png", "4.png"}.isdisjoint(data.captions) and {"3.png", "4.png"}.isdisjoint(used)


def test_too_many_bad_pictures_stop_it(own):
    (own / "3.png").write_bytes(b"broken")
    settings = settings_for(own, BAD_IMAGE_LIMIT=0.01)
    with pytest.raises(UserError, match="1 of 40 images"):
        prepare(settings)
    assert not (settings.data_path / "dataset.json").exists()


def test_an_archive_of_images_is_unpacked_beside_the_data(own):
    with zipfile.ZipFile(own / "images.zip", "w") as archive:
        for picture in list(own.glob("*.png")):
            archive.write(picture, f"nested/{picture.name}")
            picture.unlink()
    settings = settings_for(own)
    data = prepare(settings)
    assert len(data.captions) == 40 and data.image_dir.is_relative_to(settings.data_path)
    assert sorted(p.name for p in own.iterdir()) == ["captions.csv", "images.zip"]
    assert read_prepared(settings.data_path).image_dir == data.image_dir


def pack(raw, color):
    """All its pictures into images.zip, in one colour."""
    with zipfile.ZipFile(raw / "images.zip", "w") as archive:
        for number in range(40):
            (raw / f"{number}.png").unlink(missing_ok=True)
            Image.new("RGB", (8, 8), color).save(raw / "picture.png")
            archive.write(raw / "picture.png", f"{number}.png")
    (raw / "picture.png").unlink()


def test_captions_get_the_pictures_of_their_own_archive(own):
    for color in ((255, 0, 0), (0, 0, 255)):  # as the same names come again from elsewhere, or the archive is mended
        pack(own, color)
        with Image.open(prepare(settings_for(own)).image_dir / "7.png") as picture:
            assert picture.getpixel((0, 0)) == color


def test_pictures_unpacked_into_the_raw_folder_are_not_taken_for_its_own(own):
    settings = settings_for(own, DATA_DIR=str(own), DATASET="folder")
    for color in ((255, 0, 0), (0, 0, 255)):
        pack(own, color)
        with Image.open(prepare(settings).image_dir / "7.png") as picture:
            assert picture.getpixel((0, 0)) == color


def test_images_in_several_archives_all_arrive(own):
    pictures = sorted(own.glob("*.png"))
    for number, part in enumerate((pictures[:20], pictures[20:])):
        with zipfile.ZipFile(own / f"part{number}.zip", "w") as archive:
            for picture in part:
                archive.write(picture, picture.name)
                picture.unlink()
    assert len(prepare(settings_for(own)).captions) == 40


@pytest.mark.parametrize("name", ["dataset.json", "captions.json", "splits.json"])
def test_damaged_prepared_data_is_one_clear_error(own, name):
    settings = settings_for(own)
    prepare(settings)
    (settings.data_path / name).write_text("{ cut")
    with pytest.raises(UserError, match=name):
        prepare(settings)


def test_two_folders_of_pictures_do_not_share_a_place_but_one_that_moved_keeps_its_own(own, tmp_path):
    prepare(settings_for(own))
    other = make_own_folder(tmp_path / "other")
    with pytest.raises(
        UserError, match=r"holds the data of .*raw; for those of .*other name another folder with --data"
    ):
        prepare(settings_for(other))
    own.rename(tmp_path / "gone").joinpath("captions.csv").unlink()  # the first folder is there no more
    assert len(prepare(settings_for(other)).captions) == 40
