"""The feature cache: what the encoder makes, made once, resumable, never stale or damaged."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from tiny import tiny_settings, tiny_tokenizer
from torch.utils.data import DataLoader

from basics import cache_file, disk
from basics.errors import UserError
from basics.launched import Share
from basics.progress_bar import progress_bar
from dataset import ImageTextDataset, SplitPictures
from networks.encoders import load_encoder
from sources.prepared import PreparedData
from training import feature_cache as features
from training.feature_cache import cached_features
from training.processes import OneProcess


@pytest.fixture
def data(tmp_path):
    names = [f"{i}.png" for i in range(5)]
    for i, name in enumerate(names):
        Image.effect_noise((40, 30), 20 + 40 * i).convert("RGB").save(tmp_path / name)
    return PreparedData({name: ["a small red circle"] * 2 for name in names}, {"train": names}, tmp_path)


@pytest.fixture
def parts(monkeypatch):
    """Two pictures a file: the five of data are three files."""
    monkeypatch.setattr(features, "PART_BYTES", 2 * 2 * 5 * 16)  # of five tokens, 16 wide, two bytes each


@pytest.fixture(autouse=True)
def as_it_is(request, monkeypatch):
    """Calls of the encoder itself can be counted."""
    if "fast" not in request.node.name:
        monkeypatch.setattr(features, "fast_copy", lambda encoder, *_: encoder)


class OneOfTwo(OneProcess):
    def __init__(self, index):
        self.is_main, self.here = index == 0, Share(index, 2)


def make(data, seed=0, **changes):
    settings = tiny_settings(**{"DATA_DIR": str(data.image_dir / "data"), **changes}).replace(CACHE_FEATURES=True)
    torch.manual_seed(seed)
    encoder, processor = load_encoder(settings)
    return encoder, SplitPictures(data, "train", processor, settings), settings


def cache(encoder, pictures, settings, processes=None):
    return cached_features(encoder, pictures, settings, torch.device("cpu"), torch.float32, processes or OneProcess())


def with_features(encoder, pictures, settings):
    return ImageTextDataset(pictures, tiny_tokenizer(), settings, features=cache(encoder, pictures, settings))


def test_a_fast_copy_makes_the_features_and_the_encoder_stays(data):
    encoder, pictures, settings = make(data)
    before, pixels = copy.deepcopy(encoder.state_dict()), pictures.read([0, 1, 2, 3, 4], [0] * 5)
    found = cache(encoder, pictures, settings).read([0, 1, 2, 3, 4], [0] * 5)
    assert torch.allclose(found.float(), encoder.eval()(pixels), atol=2e-3)
    assert all(torch.equal(before[name], values) for name, values in encoder.state_dict().items())


def test_cached_features_are_what_the_encoder_makes(data):
    encoder, pictures, _ = made = make(data)
    dataset = with_features(*made)
    encoder.eval()
    with torch.no_grad():
        expected = encoder(pictures.read([3, 1], [0, 0]))
    assert torch.allclose(dataset.images([3, 1]).float(), expected, atol=2e-3)


def test_views_are_augmented_once_each_and_shown_in_turn(data):
    encoder, pictures, _ = made = make(data, AUGMENT=True, AUGMENT_VIEWS=3)
    dataset = with_features(*made)
    assert dataset.features.shape[0] == 3
    shown = []
    for dataset.epoch in range(3):
        shown.append(dataset.images([2]).float())
    assert all(not torch.equal(a, b) for a, b in zip(shown, shown[1:]))
    encoder.eval()
    with torch.no_grad():
        plain = encoder(pictures.read([2], [0]))
    assert sum(torch.allclose(view, plain, atol=2e-3) for view in shown) == 1  # view 0 is the picture itself


def test_building_the_cache_leaves_the_random_numbers_of_training_alone(data):
    made = make(data)
    before = torch.get_rng_state()
    cache(*made)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_there_is_not_made_again(data, monkeypatch):
    made = make(data)
    first = cache(*made)
    monkeypatch.setattr(cache_file, "build", lambda *_: pytest.fail("made again"))
    assert cache(*made).paths == first.paths


@pytest.mark.parametrize("change", ["weights", "picture", "augmentation", "preprocessing"])
def test_another_encoder_picture_or_preparation_makes_another_file(data, change):
    first = cache(*make(data)).paths[0]
    if change == "picture":
        Image.new("RGB", (90, 90)).save(data.image_dir / "0.png")
    changes = {"augmentation": {"AUGMENT": True, "AUGMENT_VIEWS": 1}, "preprocessing": {"SCRATCH_IMAGE_SIZE": 16}}
    second = cache(*make(data, seed=int(change == "weights"), **changes.get(change, {}))).paths[0]
    assert second != first


def test_a_damaged_file_is_named_and_made_anew(data, capsys):
    made = make(data)
    path = cache(*made).paths[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-2] + b"\0\1")
    assert cache(*made).paths[0].read_bytes() == whole
    assert "damaged" in capsys.readouterr().out


def test_a_stopped_build_goes_on_where_it_was(data, monkeypatch):
    made = make(data)
    whole = cache(*made).paths[0].read_bytes()
    path = cache(*made).paths[0]
    path.unlink()
    monkeypatch.setattr(features, "BATCH", 2)
    monkeypatch.setattr(cache_file, "NOTE_EVERY", -1.0)
    encoder, encoded = made[0], []

    def failing(module, inputs, output):
        encoded.append(len(output))
        if len(encoded) == 3:
            raise KeyboardInterrupt

    handle = encoder.register_forward_hook(failing)
    # token_shape() encodes one blank picture first: the stop comes at the second batch
    with pytest.raises(KeyboardInterrupt):
        cache(*made)
    assert json.loads(path.with_suffix(".part.json").read_text())["done"] == 2
    handle.remove()
    sizes = []
    encoder.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    cache(*made)
    assert sum(sizes) - 1 == 3  # token_shape() and the three that were missing
    assert path.read_bytes() == whole


def test_a_disk_too_small_is_said_before_the_work(data, monkeypatch):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(UserError, match="needs .* free"):
        cache(*make(data))


def test_workers_under_spawn_read_the_same_features(data, parts):
    dataset = with_features(*make(data))
    assert len(dataset.features.paths) == 3
    loader = DataLoader(
        dataset, batch_size=4, num_workers=1, multiprocessing_context="spawn", collate_fn=features.same_batch
    )
    here, there = dataset.__getitems__([0, 1, 2, 3]), next(iter(loader))
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(here, there))


def everything(features):
    views, images = features.shape[:2]
    return features.read([*range(images)] * views, [view for view in range(views) for _ in range(images)])


@pytest.mark.parametrize("views, workers", [(1, 0), (3, 1)])
def test_parts_hold_what_one_file_does(data, monkeypatch, views, workers):
    made = make(data, AUGMENT=views > 1, AUGMENT_VIEWS=views, NUM_WORKERS=workers)
    one = cache(*made)
    monkeypatch.setattr(features, "PART_BYTES", one.paths[0].stat().st_size * 2 // 5)
    parts = cache(*made)
    assert (len(one.paths), len(parts.paths)) == (1, 3)
    assert torch.equal(everything(parts), everything(one))


def encoded(encoder):
    """A list that grows by the pictures of each call; token_shape() encodes one."""
    sizes = []
    encoder.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    return sizes


@pytest.mark.parametrize("change", ["gone", "damaged"])
def test_only_the_part_that_is_gone_or_damaged_is_made_again(data, parts, change):
    made = make(data)
    first = cache(*made)
    whole, part = everything(first), first.paths[1]
    part.unlink() if change == "gone" else part.write_bytes(part.read_bytes()[:-2] + b"\0\1")
    sizes = encoded(made[0])
    assert torch.equal(everything(cache(*made)), whole) and sizes == [1, 2]


def test_one_bar_counts_all_parts_and_those_that_were_there_as_done_before(data, parts, monkeypatch):
    made, bars = make(data), []
    monkeypatch.setattr(features, "progress_bar", lambda **options: bars.append(progress_bar(**options)) or bars[-1])
    cache(*made).paths[1].unlink()
    cache(*made)
    assert [(bar.n, bar.total, bar.initial) for bar in bars] == [(5, 5, 0), (5, 5, 3)]


def test_a_build_that_stopped_in_its_second_part_goes_on_there(data, parts, monkeypatch):
    encoder, pictures, settings = make(data)
    expected = everything(cache(*make(data, DATA_DIR=str(data.image_dir / "other"))))
    monkeypatch.setattr(features, "BATCH", 1)
    monkeypatch.setattr(cache_file, "NOTE_EVERY", -1.0)
    sizes = encoded(encoder)
    # the first is token_shape()'s, then come two pictures of the first part
    stopping = encoder.register_forward_hook(lambda *_: pytest.exit("stopped") if len(sizes) == 5 else None)
    with pytest.raises(pytest.exit.Exception):
        cache(encoder, pictures, settings)
    stopping.remove()
    sizes.clear()
    assert torch.equal(everything(cache(encoder, pictures, settings)), expected) and sizes == [1, 1, 1]


def test_two_processes_make_disjoint_parts_and_read_all(data, parts):
    made = make(data)
    sizes = encoded(made[0])
    cache(*made, OneOfTwo(0))
    assert sizes == [1, 2, 1]  # the first and the last
    second = cache(*made, OneOfTwo(1))
    assert sizes == [1, 2, 1] + [1, 2]
    assert torch.equal(everything(second), everything(cache(*make(data, DATA_DIR=str(data.image_dir / "one")))))


def test_a_disk_too_small_for_all_parts_is_said_before_the_first(data, parts, monkeypatch):
    made = make(data)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=features.PART_BYTES + 1))
    sizes = encoded(made[0])
    with pytest.raises(UserError, match="needs .* free"):
        cache(*made)
    assert sizes == [1]


def test_many_files_are_read_without_holding_any_open(data, parts, monkeypatch):
    found = cache(*make(data, AUGMENT=True, AUGMENT_VIEWS=3))
    whole = everything(found)
    monkeypatch.setattr(features, "MOST_MAPPED", 2)
    monkeypatch.setattr(features, "mapped", lambda *_: pytest.fail("held open"))
    assert torch.equal(everything(found), whole)
