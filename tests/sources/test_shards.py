"""Tar shards: written the same each time, read as the folder they came from; what is bad in them is said or counted."""

import dataclasses
import functools
import io
import json
import os
import shutil
import signal
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from in_process import call
from own_folder import make_own_folder
from PIL import Image
from tiny import tiny_settings, tiny_tokenizer
from transformers import ViTImageProcessor

import dataset as dataset_module
import write_shards
from basics.errors import UserError
from basics.launched import ALL, Share
from dataset import CaptionBatchSampler, ImageTextDataset, PairLoader, SplitPictures
from sources.captions import Captions
from sources.images import find_pictures, load_image
from sources.pictures import split_pictures
from sources.prepare import prepare
from sources.prepared import is_prepared, read_prepared
from sources.shards import write
from sources.shards.places import expand


def settings_for(folder, **changes):
    named = {"DATASET": "webdataset", "DATA_DIR": str(folder / "data"), "BATCH_SIZE": 8, **changes}
    return tiny_settings(**named)


def made(settings):
    return prepare(settings, Captions(lambda captions: tiny_tokenizer()))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A prepared folder and its shards, of seven pictures each."""
    home = tmp_path_factory.mktemp("home")
    own = make_own_folder(home / "own")
    made(settings_for(home, DATASET="folder", RAW_DIR=str(own)))
    for output in ("shards", "again"):
        flags = ["--data-dir", home / "data/folder", "--output", home / output, "--pictures-per-shard", 7]
        write_shards.main([*map(str, flags)])
    return home


def loader_of(data, settings, share=ALL):
    pictures = SplitPictures(data, "train", ViTImageProcessor(size={"height": 16, "width": 16}), settings)
    return PairLoader(ImageTextDataset(pictures, tiny_tokenizer(), settings), settings, 0, shuffle=True, share=share)


def picture_bytes(color=0):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (color, 0, 0)).save(file, "PNG")
    return file.getvalue()


def tar(path, members):
    """members: (name, bytes) or a TarInfo without content."""
    with tarfile.open(path, "w") as content:
        for member in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member[0])
            info.size = 0 if isinstance(member, tarfile.TarInfo) else len(member[1])
            content.addfile(info, None if isinstance(member, tarfile.TarInfo) else io.BytesIO(member[1]))
    return path


def foreign(folder, extra=()):
    """Sixty good samples of others, in one shard whose name says no split."""
    folder.mkdir()
    pairs = [((f"{i:04}.png", picture_bytes(i)), (f"{i:04}.txt", b"a picture")) for i in range(60)]
    return tar(folder / "00000.tar", [*(member for pair in pairs for member in pair), *extra])


def test_the_same_data_give_the_same_shards_with_their_checksums(home):
    index = (home / "shards/index.json").read_bytes()
    assert index == (home / "again/index.json").read_bytes()
    assert sum(shard["samples"] for shard in json.loads(index)["shards"]) == 40


def test_what_is_there_is_not_written_over(home):
    with pytest.raises(UserError, match="is there already"):
        write_shards.main(["--data-dir", str(home / "data/folder"), "--output", str(home / "shards")])


def test_tars_of_others_and_a_folder_called_old_are_left_alone(home, tmp_path):
    for name in ("mine", "shards.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "backup.tar").write_text("mine")
    for output, words in (("mine", "holds something else than shards"), ("shards", "is in the way")):
        with pytest.raises(UserError, match=words):
            write_shards.main(
                ["--data-dir", str(home / "data/folder"), "--output", str(tmp_path / output), "--overwrite"]
            )
    assert all((tmp_path / name / "backup.tar").read_text() == "mine" for name in ("mine", "shards.old"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_one_line_and_leaves_nothing_behind(home, tmp_path, monkeypatch, number):
    def stop(*_):
        assert signal.getsignal(number) is signal.default_int_handler  # else the tests would end here
        signal.raise_signal(number)

    monkeypatch.setattr(write, "size_of_file", stop)
    result = call(write_shards.main, "--data-dir", home / "data/folder", "--output", "shards", cwd=tmp_path)
    assert (result.returncode, result.stderr, [*tmp_path.iterdir()]) == (130, "interrupted\n", [])


def test_preparing_that_failed_is_not_prepared(home, tmp_path):
    settings = settings_for(tmp_path, SHARDS=str(home / "shards"))
    made(settings)
    (settings.data_path / "dataset.json").unlink()  # as it is until all the rest is there
    assert not is_prepared(settings.data_path)
    assert len(made(settings).split("train")) == 31
    with open(settings.data_path / "samples/train.samples", "r+b") as file:
        file.truncate(5)
    with pytest.raises(UserError, match="prepare"):
        read_prepared(settings.data_path)


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_give_the_batches_of_their_folder_and_go_on_in_the_middle(home, tmp_path, workers):
    changes = {"NUM_WORKERS": workers}
    settings = settings_for(tmp_path, SHARDS=str(home / "shards"), **changes)
    ours, folder = loader_of(made(settings), settings), loader_of(read_prepared(home / "data/folder"), settings)
    expected = list(folder.batches(epoch=1))
    assert sorted(n for batch in expected for n in batch["caption_numbers"].tolist()) == list(range(len(ours.dataset)))
    for start in (0, 2):
        found = list(ours.batches(epoch=1, start=start))
        assert len(found) == len(expected) - start
        for a, b in zip(found, expected[start:]):
            assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("count", [2, 3])
def test_any_number_of_processes_and_workers_read_an_epoch_of_many_shards_once(
    home, tmp_path, monkeypatch, count, workers
):
    """More shards than are shuffled at once."""
    monkeypatch.setattr("dataset.SHARDS_AT_ONCE", 2)
    settings = settings_for(tmp_path, SHARDS=str(home / "shards"), NUM_WORKERS=workers)
    data = made(settings)
    loaders = [loader_of(data, settings, Share(index, count)) for index in range(count)]
    found = [[batch["caption_numbers"].tolist() for batch in loader.batches(epoch=2)] for loader in loaders]
    whole = [batch["caption_numbers"].tolist() for batch in loader_of(data, settings).batches(epoch=2)]
    assert [sum(parts, []) for parts in zip(*found, strict=True)] == whole
    assert sorted(sum(whole, [])) == [*range(len(loaders[0].dataset))]


def test_the_order_of_an_epoch_has_one_fingerprint_wherever_its_shards_lie(home, tmp_path):
    moved, other = (shutil.copytree(home / "shards", tmp_path / name) for name in ("moved", "other"))
    os.utime(moved / "train-000000.tar", (0, 0))
    (other / "index.json").unlink()
    first, second = other / "train-000000.tar", other / "train-000001.tar"
    for old, new in ((first, other / "aside"), (second, first), (other / "aside", second)):
        old.rename(new)
    same, still, swapped = (
        made(settings_for(tmp_path / str(number), SHARDS=str(shards))).split("train").order_fingerprint()
        for number, shards in enumerate((home / "shards", moved, other))
    )
    assert same == still != swapped


def test_the_order_of_an_epoch_has_one_fingerprint_wherever_its_pictures_lie(home, tmp_path):
    split = read_prepared(home / "data/folder").split("train")
    order = split.order_fingerprint()
    assert dataclasses.replace(split, image_dir=tmp_path).order_fingerprint() == order
    more = [["one more", *split.references[0]], *split.references[1:]]
    assert dataclasses.replace(split, names=split.names[::-1]).order_fingerprint() != order
    assert dataclasses.replace(split, references=more).order_fingerprint() != order


@pytest.mark.parametrize("grouped", [False, True])
def test_only_a_few_shards_are_read_at_once(monkeypatch, grouped):
    monkeypatch.setattr(dataset_module, "SHARDS_AT_ONCE", 2)
    shards = 4 + np.arange(60) // 10  # after those of another split
    sampler = CaptionBatchSampler(
        np.repeat(np.arange(60), 2), 8, seed=1, grouped=grouped, shuffle=True, shard_numbers=shards
    )
    order = sampler.order()
    assert sorted(order) == list(range(120))
    assert all(len({*shards[order[start : start + 40] // 2]}) == 2 for start in range(0, 120, 40))
    sampler.epoch = 1
    assert not np.array_equal(order, sampler.order())


def test_pictures_of_shards_are_evaluated_under_the_names_of_their_files(home, tmp_path):
    settings = settings_for(tmp_path, SHARDS=str(home / "shards"))
    made(settings)
    pictures, files = (split_pictures(str(p), "val", settings) for p in (settings.data_path, home / "data/folder"))
    assert [path.name for path in pictures.paths] == [path.name for path in files.paths]
    assert pictures.references == files.references
    [found] = find_pictures([str(pictures.paths[0])])
    assert load_image(found).tobytes() == load_image(files.paths[0]).tobytes()


def test_samples_of_others_are_read_and_bad_ones_counted(tmp_path, capsys):
    link, device = tarfile.TarInfo("link.png"), tarfile.TarInfo("device.png")
    link.type, link.linkname, device.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.CHRTYPE
    bad = [
        link,
        device,
        ("/absolute.png", b""),
        ("../up.png", b""),
        ("alone.png", picture_bytes()),
        ("silent.txt", b"no picture"),
        ("broken.jpg", b"no picture"),
        ("broken.txt", b"a caption"),
        ("0001.png", picture_bytes()),
        ("0001.txt", b"a second time"),
        ("json.jpg", picture_bytes()),
        ("json.json", b"{"),
        ("evil.pyd", b"cos\nsystem\n"),
        ("good.jpg", picture_bytes()),
        ("good.json", b'{"caption": "a picture", "name": "x/y.png"}'),
    ]
    foreign(tmp_path / "raw", bad)
    settings = settings_for(tmp_path, RAW_DIR=str(tmp_path / "raw"), BAD_IMAGE_LIMIT=0.5)
    data = made(settings)
    assert sum(len(data.split(split)) for split in ("train", "val", "test")) == 61
    listed = (settings.data_path / "bad_images.txt").read_text()
    names = [line.split("\t")[0].removeprefix("00000.tar/") for line in listed.splitlines()]
    assert {"link.png", "device.png", "../up.png", "alone", "silent", "broken", "0001", "json"} <= {*names}
    assert "1 members of shards are of no known kind" in capsys.readouterr().out
    with pytest.raises(UserError, match="BAD_IMAGE_LIMIT"):
        made(settings.replace(BAD_IMAGE_LIMIT=0.01))


@pytest.mark.parametrize(
    "harm, words",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:20_000]), "is damaged .*"),
        (lambda path: path.write_bytes(path.read_bytes()[:10_240]), "is damaged .*cut short"),
        (lambda path: path.write_bytes(b""), "is damaged .*empty"),
    ],
)
def test_a_shard_that_is_not_whole_is_one_line(tmp_path, harm, words):
    harm(foreign(tmp_path / "raw"))
    with pytest.raises(UserError, match=words):
        made(settings_for(tmp_path, RAW_DIR=str(tmp_path / "raw")))


@pytest.mark.parametrize("same_size, words", [(True, "another checksum"), (False, "its index says")])
def test_a_changed_shard_is_one_line(home, tmp_path, same_size, words):
    for path in (home / "shards").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shard = tmp_path / "train-000001.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[:600] + b"x" + content[601:] if same_size else content + b"\0" * 512)
    with pytest.raises(UserError, match=words):
        made(settings_for(tmp_path, SHARDS=str(tmp_path)))


def test_a_missing_shard_is_one_line(home, tmp_path):
    (tmp_path / "index.json").write_bytes((home / "shards/index.json").read_bytes())
    with pytest.raises(UserError, match="train-000000.tar is missing|missing"):
        made(settings_for(tmp_path, SHARDS=str(tmp_path)))


def test_shards_of_a_server_are_fetched_once_and_a_missing_one_is_one_line(home, tmp_path):
    handler = functools.partial(QuietHandler, directory=str(home / "shards"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    settings = settings_for(tmp_path, SHARDS=f"{url}/train-{{000000..000001}}.tar::{url}/val-000000.tar")
    assert len(made(settings).split("train")) == 14
    with pytest.raises(UserError, match="cannot fetch the shard .*404"):
        made(settings.replace(SHARDS=f"{url}/gone.tar"))
    fetched = sorted((settings.data_path / "fetched").iterdir())
    assert len(fetched) == 3 and fetched == sorted((settings.data_path / "fetched").glob("*.tar"))
    server.shutdown()
    server.server_close()
    assert len(made(settings).split("train")) == 14  # what was fetched needs no server


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


@pytest.mark.parametrize(
    "shards, words",
    [
        ("pipe:cat a.tar", "would run a command"),
        ("s3://bucket/a.tar", "s3 is not read"),
        ("a-{0..99999999999}.tar", "more than"),
        ("a-{0..9.tar", "braces|no .tar"),
        ("a.tar::a.tar", "twice"),
        ("nowhere/", "no .tar file and no folder"),
    ],
)
def test_places_that_cannot_or_must_not_be_read_are_one_line(shards, words):
    with pytest.raises(UserError, match=words):
        expand(shards)
