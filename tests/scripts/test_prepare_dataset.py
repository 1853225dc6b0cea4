"""prepare_dataset.py as a user runs it: splits by image, checks, archives, the no-op, the download."""

import io
import json
import shutil
import tarfile
import zipfile

import pytest
from hub_stub import HubStub
from PIL import Image
from tiny import SHARED, run, tiny_settings

from basics.errors import UserError
from basics.settings import load_settings
from prepare_dataset import hash_split, prepare, read_prepared
from sources.archives import unpack


@pytest.fixture
def own(tmp_path):
    """An own folder of 40 pictures, two captions each."""
    raw = tmp_path / "raw"
    raw.mkdir()
    lines = ["image,caption"]
    for i in range(40):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(raw / f"{i}.png")
        lines += [f"{i}.png,a picture number {i}", f"{i}.png,number {i}"]
    (raw / "captions.csv").write_text("\n".join(lines) + "\n")
    return raw


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


def test_the_seed_and_the_fractions_decide_the_hashed_splits():
    names = [f"{i}.jpg" for i in range(4000)]
    splits = [hash_split(name, 1, 0.1, 0.2) for name in names]
    assert splits.count("val") == pytest.approx(400, abs=80) and splits.count("test") == pytest.approx(800, abs=110)
    assert splits != [hash_split(name, 2, 0.1, 0.2) for name in names]


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


def test_the_report_counts_what_matters(own, tmp_path):
    twins = [f"{i}.png" for i in range(40)]
    split = {name: hash_split(name, 42, 0.2, 0.2) for name in twins}
    one, other = next(n for n in twins if split[n] == "train"), next(n for n in twins if split[n] == "val")
    shutil.copy(own / one, own / other)
    with open(own / "captions.csv", "a") as file:
        file.write("0.png," + "long " * 60 + "\n")
    result = run(
        "prepare_dataset.py",
        "--dataset",
        "folder",
        "--raw-dir",
        own,
        "--val-fraction",
        0.2,
        "--test-fraction",
        0.2,
        cwd=tmp_path,
    )
    report = json.loads((tmp_path / "data/folder/dataset.json").read_text())["report"]
    assert report["duplicates_across_splits"] == [sorted((one, other), key=twins.index)]
    assert (report["images"], report["captions"], report["captions_cut"], report["bad_images"]) == (40, 81, 1, 0)
    assert report["captions_per_image"] == {"2": 39, "3": 1}
    for part in (
        "40: train",
        "81;",
        "1 captions exceed MAX_SEQ_LEN",
        "1 pictures stand in more than one split",
        "next         python train.py --dataset folder",
    ):
        assert part in result.stdout


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


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil-absolute.txt", "a/../../evil.txt"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_path_of_an_archive_leaves_its_folder(tmp_path, kind, name):
    archive = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(name, "evil")
    else:
        with tarfile.open(archive, "w") as file:
            file.addfile(info := tarfile.TarInfo(name), io.BytesIO(b""))
            assert info.size == 0
    with pytest.raises(UserError, match="outside"):
        unpack([archive], tmp_path / "in" / "images")
    assert not [p for p in tmp_path.rglob("*evil*")] and not list((tmp_path / "in" / "images").iterdir())


def test_a_link_in_an_archive_cannot_lead_out(tmp_path):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as file:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, "../.."
        file.addfile(link)
    with pytest.raises(UserError):
        unpack([archive], tmp_path / "images")


def test_a_cut_archive_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(UserError, match="download it again"):
        unpack([tmp_path / "a.zip"], tmp_path / "images")


def hub_files() -> dict[str, bytes]:
    """What the Hub's Flickr30k repository holds, with four pictures."""
    rows, pictures = ["raw,sentids,split,filename,img_id"], io.BytesIO()
    with zipfile.ZipFile(pictures, "w") as archive:
        for i, split in enumerate(("train", "train", "val", "test")):
            content = io.BytesIO()
            Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(content, "JPEG")
            archive.writestr(f"flickr30k-images/{i}.jpg", content.getvalue())
            rows.append(f'"[""A man {i} ."", ""Men""]","[0, 1]",{split},{i}.jpg,{i}')
    return {"flickr_annotations_30k.csv": "\n".join(rows).encode() + b"\n", "flickr30k-images.zip": pictures.getvalue()}


def test_flickr30k_is_downloaded_from_the_hub(tmp_path):
    with HubStub() as hub:
        hub.add("nlphuji/flickr30k", hub_files())
        result = run(
            "prepare_dataset.py",
            "--dataset",
            "flickr30k",
            cwd=tmp_path,
            **{**hub.client_env(tmp_path / "home"), "HF_HUB_OFFLINE": "0"},
        )
    assert result.returncode == 0
    data = read_prepared(tmp_path / "data/flickr30k")
    assert {split: len(names) for split, names in data.splits.items()} == {"train": 2, "val": 1, "test": 1}
    assert data.captions["0.jpg"] == ["A man 0.", "Men"]
    again = run("prepare_dataset.py", "--dataset", "flickr30k", cwd=tmp_path)  # offline now
    assert again.returncode == 0 and "is prepared" in again.stdout


def test_without_a_network_one_error_says_which_file_to_put_where(tmp_path):
    result = run(
        "prepare_dataset.py",
        "--dataset",
        "flickr30k",
        cwd=tmp_path,
        HF_HUB_OFFLINE="0",
        HF_ENDPOINT="http://127.0.0.1:9",
        HF_HOME=str(tmp_path / "home"),
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    for part in ("flickr_annotations_30k.csv", "flickr30k-images.zip", "--raw-dir"):
        assert part in result.stderr


def test_the_drawn_shapes_are_the_same_everywhere_and_grow_without_changing(tmp_path):
    few, many = (prepare(tiny_settings(DATA_DIR=str(tmp_path / str(n)), SHAPES_NUM_IMAGES=n)) for n in (40, 60))
    assert all(many.captions[name] == few.captions[name] for name in few.captions)
    assert all((many.image_dir / n).read_bytes() == (few.image_dir / n).read_bytes() for n in few.captions)


def test_flickr8k_as_it_ships(tmp_path):
    raw = SHARED / "data/flickr8k"
    if not raw.is_dir():
        pytest.skip(f"no Flickr8k at {raw}")
    settings = load_settings([], DATASET="flickr8k", RAW_DIR=str(raw), DATA_DIR=str(tmp_path))
    data = prepare(settings)
    assert {split: len(names) for split, names in data.splits.items()} == {"train": 6000, "val": 1000, "test": 0}
    assert (settings.data_path / "bad_images.txt").read_text().startswith("2258277193_586949ec62.jpg.1\t")
    notes = json.loads((settings.data_path / "dataset.json").read_text())["notes"]
    assert any(note.startswith("91 pictures") for note in notes)
