"""CIFAR-10 as it is shipped, in miniature: read by torchvision where its checksums hold, and by nobody else."""

import hashlib
import pickle
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image
from test_classes import refusal, settings_of
from torchvision.datasets import CIFAR10

from basics.errors import UserError
from sources.classes.kind import Classes, classes_of
from sources.prepare import prepare

NAMES = ["airplane", "cat"]
FOLDER = "cifar-10-batches-py"


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """40 pictures to train on, 4 for the test; torchvision expects these very files."""
    folder = tmp_path / "raw" / FOLDER
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lists = {}
    for name, count in (("data_batch_1", 40), ("test_batch", 4)):
        pixels = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        lists[name] = written(folder / name, {"data": pixels, "labels": [i % 2 for i in range(count)]})
    meta = written(folder / "batches.meta", {"label_names": NAMES})
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", lists["data_batch_1"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", lists["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": meta})
    return tmp_path / "raw"


def written(path, content) -> str:
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


def made(raw, **changes):
    return prepare(settings_of(raw, DATASET="cifar10", **changes), Classes("cifar10"))


def pack(raw):
    with tarfile.open(raw / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(raw / FOLDER, FOLDER)
    for file in (raw / FOLDER).iterdir():
        file.unlink()
    (raw / FOLDER).rmdir()


@pytest.mark.parametrize("packed", [False, True])
def test_it_becomes_pictures_and_classes_beside_the_data(shipped, packed, capsys):
    pixels = CIFAR10(shipped).data
    if packed:
        pack(shipped)
    there = sorted(shipped.rglob("*"))
    data = made(shipped)
    assert classes_of(data) == NAMES and len(data.splits["test"]) == 4 and data.splits["val"]
    assert data.image_dir.is_relative_to(shipped.parent / "data/cifar10-classify/images")
    with Image.open(data.image_dir / "train/cat/00007.png") as picture:
        assert (np.asarray(picture) == pixels[7]).all()
    assert sorted(shipped.rglob("*")) == there  # which is only read
    assert "CIFAR-10 ->" in capsys.readouterr().out
    assert made(shipped).splits == data.splits and "is prepared" in capsys.readouterr().out


def test_it_is_what_its_dataset_means_whatever_lies_beside_it(shipped):
    for name in ("holiday", "work"):
        (shipped / name).mkdir()
        Image.new("RGB", (8, 8)).save(shipped / name / "1.png")
    assert classes_of(made(shipped)) == NAMES


def test_other_bytes_than_shipped_are_never_unpickled(shipped):
    (shipped / FOLDER / "data_batch_1").write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    with pytest.raises(UserError, match="is not CIFAR-10 as it is shipped"):
        made(shipped)


def test_both_archives_in_one_folder_are_told_apart_by_the_dataset(shipped):
    (shipped / "cifar-100-python").mkdir()
    assert "choose one with --dataset cifar10" in refusal(shipped)
    assert len(made(shipped).captions) == 44


def test_it_is_downloaded_where_no_folder_is_named(shipped, monkeypatch):
    pack(shipped)
    archive = shipped / "cifar-10-python.tar.gz"
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=shipped)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/{archive.name}")
        data = made(shipped, RAW_DIR=None)
        server.shutdown()
    assert len(data.captions) == 44
    assert made(shipped, RAW_DIR=None).splits == data.splits  # without asking again


def test_without_a_network_one_line_says_what_to_put_where(shipped, monkeypatch):
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    message = refusal(shipped, RAW_DIR=None, DATASET="cifar10")
    for part in ("cannot download http://127.0.0.1:9", "cifar-10-python.tar.gz", "--raw-dir"):
        assert part in message
