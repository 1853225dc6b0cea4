"""prepare_dataset.py as a user runs it: the report, the download, Flickr8k as it ships."""

import io
import json
import shutil
import time
import zipfile
from functools import partial

import huggingface_hub
import pytest
from hub_stub import HubStub
from own_folder import make_own_folder
from PIL import Image
from tiny import SHARED, run

import prepare_dataset
from basics.errors import UserError
from sources.prepared import read_prepared
from sources.splits import hash_split


def test_the_report_counts_what_matters(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    own = make_own_folder(tmp_path / "raw")
    twins = [f"{i}.png" for i in range(40)]
    split = {name: hash_split(name, 42, 0.2, 0.2) for name in twins}
    one, other = next(n for n in twins if split[n] == "train"), next(n for n in twins if split[n] == "val")
    shutil.copy(own / one, own / other)
    with open(own / "captions.csv", "a") as file:
        file.write("0.png," + "long " * 60 + "\n")
    prepare_dataset.main(
        ["--dataset", "folder", "--raw-dir", str(own), "--val-fraction", "0.2", "--test-fraction", "0.2"]
    )
    out = capsys.readouterr().out
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
        assert part in out


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


def test_without_a_network_one_error_says_which_file_to_put_where(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nowhere = {"endpoint": "http://127.0.0.1:9", "cache_dir": tmp_path / "cache"}
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", partial(huggingface_hub.hf_hub_download, **nowhere))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client waits long between its tries
    with pytest.raises(UserError) as caught:
        prepare_dataset.main(["--dataset", "flickr30k"])
    assert "\n" not in str(caught.value)
    for part in ("flickr_annotations_30k.csv", "flickr30k-images.zip", "--raw-dir"):
        assert part in str(caught.value)


def test_flickr8k_as_it_ships(tmp_path):
    raw, data = SHARED / "data/flickr8k", tmp_path / "flickr8k"
    if not raw.is_dir():
        pytest.skip(f"no Flickr8k at {raw}")
    prepare_dataset.main(["--dataset", "flickr8k", "--raw-dir", str(raw), "--data-dir", str(tmp_path)])
    splits = read_prepared(data).splits
    assert {split: len(names) for split, names in splits.items()} == {"train": 6000, "val": 1000, "test": 0}
    assert (data / "bad_images.txt").read_text().startswith("2258277193_586949ec62.jpg.1\t")
    notes = json.loads((data / "dataset.json").read_text())["notes"]
    assert any(note.startswith("91 pictures") for note in notes)


def test_classes_are_counted_and_the_next_command_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    prepare_dataset.main(["--task", "classify", "--shapes-num-images", "120"])
    out = capsys.readouterr().out
    for part in ("drawn shapes -> data/shapes-classify", "120: train", "15; pictures of each", "blue square"):
        assert part in out
    assert out.endswith("next         python train.py --task classify --shapes-num-images 120\n")
    assert len(json.loads((tmp_path / "data/shapes-classify/dataset.json").read_text())["classes"]) == 15
