"""Pairs to batches: every caption once an epoch, </s> kept, order and augmentation functions of seed and epoch."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_settings, tiny_tokenizer
from transformers import ViTImageProcessor

from basics.launched import Share
from dataset import CaptionBatchSampler, ImageTextDataset, PairLoader, SplitPictures, collate_fn
from sources.augmentation import Augmentation
from sources.images import ImageError
from sources.prepared import PreparedData
from tokenizer import cut


@pytest.fixture
def data(tmp_path):
    names = [f"{i}.png" for i in range(6)]
    for i, name in enumerate(names):
        Image.new("RGB", (40, 30), (40 * i, 10, 10)).save(tmp_path / name)
    captions = {name: [f"a small red circle {j}" for j in range(1 + i % 3)] for i, name in enumerate(names)}
    return PreparedData(captions, {"train": names[:5], "val": names[5:]}, tmp_path)


def make_dataset(data, split="train", **settings):
    processor = ViTImageProcessor(size={"height": 16, "width": 16})
    settings = tiny_settings(**settings)
    return ImageTextDataset(SplitPictures(data, split, processor, settings), tiny_tokenizer(), settings)


def loader_of(data, **settings):
    settings = {"BATCH_SIZE": 4, **settings}
    return PairLoader(make_dataset(data, **settings), tiny_settings(**settings), 0, shuffle=True)


def same_batch(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_every_caption_of_every_image_is_one_example(data):
    assert len(make_dataset(data)) == sum(len(data.captions[name]) for name in data.splits["train"])


@pytest.mark.parametrize("grouped", [False, True])
def test_an_epoch_holds_each_pair_once_in_an_order_of_its_own(grouped):
    numbers = np.repeat(np.arange(7), 3)
    sampler = CaptionBatchSampler(numbers, 4, seed=1, grouped=grouped, shuffle=True)
    epochs = []
    for sampler.epoch in (0, 1, 0):
        epochs.append([i for batch in sampler for i in batch])
        assert sorted(epochs[-1]) == list(range(21))
    assert epochs[0] == epochs[2] != epochs[1]
    runs = 1 + sum(a != b for a, b in zip(numbers[epochs[0]], numbers[epochs[0]][1:]))
    assert bool(runs == 7) is grouped  # an image's captions lie side by side


@pytest.mark.parametrize("grouped", [False, True])
def test_an_order_of_small_numbers_is_that_of_large_ones(grouped):
    """Runs that older versions began go on with the pairs that they had not seen."""
    numbers = np.repeat(np.arange(50), 1 + np.arange(50) % 3)
    sampler = CaptionBatchSampler(numbers.astype(np.uint32), 4, seed=5, grouped=grouped, shuffle=True)
    random = np.random.default_rng((5, 0))
    order = np.argsort(random.permutation(50)[numbers], kind="stable") if grouped else random.permutation(len(numbers))
    assert sampler.order().itemsize == 4 and sampler.order().tolist() == order.tolist()


def test_a_start_batch_skips_what_was_done():
    sampler = CaptionBatchSampler(np.arange(10), 3, seed=1, grouped=False, shuffle=True)
    whole = list(sampler)
    sampler.start_batch = 2
    assert list(sampler) == whole[2:] and len(sampler) == 2


def test_a_batch_holds_each_image_once_and_deals_it_out(data):
    dataset = make_dataset(data)
    batch = collate_fn(dataset.__getitems__([0, 1, 2, 1]), pad_id=0)
    assert len(batch["images"]) == 2 and batch["image_index"].tolist() == [0, 1, 1, 1]
    assert torch.equal(batch["images"][1], dataset[1]["image"])


def test_targets_are_the_inputs_one_on_and_padding_is_masked(data):
    rows = make_dataset(data).__getitems__([0, 1])
    rows[1]["tokens"] = rows[1]["tokens"][:4]
    batch = collate_fn(rows, pad_id=0)
    assert batch["decoder_input_tokens"][0].tolist() == rows[0]["tokens"][:-1].tolist()
    assert batch["target_tokens"][0].tolist() == rows[0]["tokens"][1:].tolist()
    assert batch["target_mask"].sum(1).tolist() == [len(rows[0]["tokens"]) - 1, 3]
    assert (batch["target_tokens"][~batch["target_mask"]] == 0).all()


def test_a_cut_caption_still_ends():
    assert cut([1, 5, 6, 7, 2], 4) == [1, 5, 6, 2] and cut([1, 5, 2], 4) == [1, 5, 2]


def test_augmentation_is_a_function_of_its_seed_and_leaves_the_global_generator_alone():
    picture = Image.linear_gradient("L").convert("RGB")
    torch.manual_seed(0)
    before = torch.get_rng_state()
    augmentation = Augmentation(tiny_settings())
    one, same, other = (np.asarray(augmentation(picture, view, 0)) for view in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other) and torch.equal(before, torch.get_rng_state())


def test_augmentation_leaves_the_generators_of_other_devices_alone(monkeypatch):
    for device in (torch.cuda, torch.mps):  # what torch.manual_seed() would call where such a device is
        monkeypatch.setattr(device, "manual_seed", lambda _: pytest.fail("a device was seeded"))
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda _: pytest.fail("a GPU was seeded"))
    Augmentation(tiny_settings())(Image.linear_gradient("L").convert("RGB"), 0, 0)


def test_only_training_pictures_are_augmented(data):
    plain, augmented = make_dataset(data), make_dataset(data, AUGMENT=True)
    assert not torch.equal(plain.images([3]), augmented.images([3]))
    assert torch.equal(make_dataset(data, "val").images([0]), make_dataset(data, "val", AUGMENT=True).images([0]))


def test_workers_under_spawn_bring_the_same_batches(data):
    loaders = [loader_of(data, AUGMENT=True, NUM_WORKERS=workers) for workers in (0, 2)]
    loaders[1].loader.multiprocessing_context = "spawn"
    here, spawned = (list(loader.batches(epoch=3, start=1)) for loader in loaders)
    assert len(here) == len(spawned) > 0
    assert all(map(same_batch, here, spawned))


def test_iterating_leaves_the_generator_of_dropout_alone(data):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(loader_of(data).batches())
    assert torch.equal(before, torch.get_rng_state())


def test_a_picture_that_vanished_is_named(data):
    dataset = make_dataset(data)
    (data.image_dir / "0.png").unlink()
    with pytest.raises(ImageError, match="0.png"):
        dataset[0]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_processes_read_each_pair_once_and_together_the_batches_of_one(data, count):
    """The last batch has fewer pairs than there are processes, and as many batches come to all."""
    settings = tiny_settings(BATCH_SIZE=len(make_dataset(data)) - 1)
    loaders = [
        PairLoader(make_dataset(data), settings, 0, shuffle=True, share=Share(index, count)) for index in range(count)
    ]
    whole = PairLoader(make_dataset(data), settings, 0, shuffle=True)
    for start in (0, 1):
        shares = [[numbers_that_count(batch) for batch in loader.batches(3, start)] for loader in loaders]
        together = [[number for part in parts for number in part] for parts in zip(*shares, strict=True)]
        assert together == [numbers_that_count(batch) for batch in whole.batches(3, start)]


def numbers_that_count(batch):
    return batch["caption_numbers"][batch["target_mask"].any(1)].tolist()
