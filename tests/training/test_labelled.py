"""Batches of labelled pictures depend on seed, epoch and position alone, however they are read and shared out."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_settings
from transformers import ViTImageProcessor

from basics.launched import ALL, Share
from dataset import SplitPictures
from networks.encoders import squares_of
from sources.prepared import PreparedData
from training import labelled
from training.labelled import LabelledLoader, LabelledPictures
from training.mixing import mixing

COUNT = 11
MIXED = {"MIXUP_ALPHA": 0.4, "CUTMIX_ALPHA": 1.0}
AUGMENTED = {"AUGMENT": True, "AUGMENT_MIRROR": True, "RANDAUGMENT_OPS": 1, "RANDOM_ERASING": 0.5}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number in range(COUNT):
        coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8))
        coarse.resize((16, 16)).save(folder / f"{number}.png")
    names = [f"{number}.png" for number in range(COUNT)]
    captions = {name: ["odd" if number % 2 else "even"] for number, name in enumerate(names)}
    return PreparedData(captions, {"train": names, "val": names, "test": []}, folder)


def loader(data, *, split="train", share=ALL, shuffle=True, teacher=None, **changes):
    settings = tiny_settings(BATCH_SIZE=4, SEED=3, **changes)
    pictures = SplitPictures(data, split, squares_of(16), settings)
    labels = [number % 2 for number in range(COUNT)]
    dataset = LabelledPictures(pictures, labels, 2, mixing=mixing(settings), teacher=teacher)
    return LabelledLoader(dataset, settings, shuffle=shuffle, share=share)


def read(source, epoch=1, start=0):
    return list(source.batches(epoch, start))


def test_every_picture_is_seen_once_an_epoch_with_its_label(data):
    batches = read(loader(data))
    numbers = torch.cat([batch["numbers"] for batch in batches])
    assert sorted(numbers.tolist()) == list(range(COUNT)) and numbers.tolist() != list(range(COUNT))
    assert all(torch.equal(batch["targets"], batch["numbers"] % 2) for batch in batches)
    assert [len(batch["images"]) for batch in batches] == [4, 4, 3]


@pytest.mark.parametrize("changes", [{}, AUGMENTED, MIXED])
def test_an_epoch_goes_on_in_its_middle_as_it_would_have(data, changes):
    whole, rest = read(loader(data, **changes)), read(loader(data, **changes), start=1)
    for one, other in zip(whole[1:], rest, strict=True):
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(whole[0]["images"], read(loader(data, **changes), epoch=2)[0]["images"])


@pytest.mark.parametrize("changes", [AUGMENTED, MIXED])
@pytest.mark.parametrize("count", [2, 5])
def test_processes_together_read_the_batches_of_one(data, count, changes):
    whole = read(loader(data, **changes))
    shares = [read(loader(data, share=Share(index, count), **changes)) for index in range(count)]
    for batch, *parts in zip(whole, *shares, strict=True):
        for name in ("images", "targets", "numbers"):
            together = torch.cat([part[name][part["target_mask"]] for part in parts])
            assert torch.equal(together, batch[name])


def test_pictures_in_memory_are_those_on_the_disk(data, monkeypatch):
    held = read(loader(data, split="val", shuffle=False))
    monkeypatch.setattr(labelled, "hold", lambda *_: None)
    for one, other in zip(held, read(loader(data, split="val", shuffle=False)), strict=True):
        assert torch.equal(one["images"], other["images"])


def test_augmented_pictures_in_memory_are_like_themselves_and_each_epoch_others(data):
    source, plain = loader(data, AUGMENT=True, AUGMENT_MIRROR=True), loader(data)
    one, other, same = read(source, 1)[0], read(source, 2)[0], read(source, 1)[0]
    assert torch.equal(one["images"], same["images"]) and not torch.equal(one["images"], other["images"])
    moved = (one["images"] - read(plain, 1)[0]["images"]).abs().mean()
    assert 0.01 < moved < 0.7  # of numbers from -1 to 1: another crop and light, the same picture


@pytest.mark.parametrize("changes", [AUGMENTED, {"MIXUP_ALPHA": 0.4}, {"CUTMIX_ALPHA": 1.0}])
def test_a_teacher_sees_the_same_crops_and_mixtures_in_its_own_size(data, changes):
    teacher = ViTImageProcessor(size={"height": 32, "width": 32}, resample=Image.Resampling.NEAREST)
    at_edges = 0.2 if "CUTMIX_ALPHA" in changes else 0.0  # of a rectangle, which falls between two pixels
    for batch in read(loader(data, teacher=teacher, **changes)):
        shrunk = batch["teacher_images"][:, :, ::2, ::2]
        assert ((shrunk - batch["images"]).abs() > 1e-5).float().mean() <= at_edges
