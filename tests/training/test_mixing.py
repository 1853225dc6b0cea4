"""Mixed pictures: labels follow what is seen of each, and every size of picture sees the same mixture."""

import pickle

import numpy as np
import pytest
import torch
from tiny import tiny_settings

from training.mixing import Mix, cutmix, mixing

WHOLE = torch.stack([torch.full((3, 40, 20), float(number)) for number in range(4)])  # the last before the first


def test_nothing_is_mixed_where_nothing_is_asked():
    assert mixing(tiny_settings()) is None


def test_a_mixing_can_be_sent_to_processes_that_load_pictures():
    mix = mixing(tiny_settings(MIXUP_ALPHA=0.2, CUTMIX_ALPHA=1.0))
    assert pickle.loads(pickle.dumps(mix)) == mix


def test_mixup_blends_each_picture_and_its_label_with_the_one_before():
    mix = Mix(0.75)
    assert torch.allclose(mix.images(WHOLE)[:, 0, 0, 0], torch.tensor([0.75, 1.75, 2.75]))
    targets = mix.targets(torch.tensor([2, 0, 1, 1]), 3)
    assert torch.allclose(targets, torch.tensor([[0.75, 0, 0.25], [0.25, 0.75, 0], [0, 1, 0]]))


def test_cutmix_labels_are_the_areas_seen_and_a_teacher_of_another_size_sees_the_same_places():
    for seed in range(20):
        mix = cutmix(0.6, np.random.default_rng(seed))
        small, large = (mix.images(torch.nn.functional.interpolate(WHOLE, scale_factor=s)) for s in (1, 10))
        seen = [
            (picture[1, 0] == 2).float().mean().item() for picture in (small, large)
        ]  # of the second picture itself
        assert seen[0] == pytest.approx(mix.share, abs=0.1) and seen[1] == pytest.approx(mix.share, abs=0.01)
        assert mix.targets(torch.tensor([0, 1, 2, 3]), 4)[1, 2] == pytest.approx(mix.share)


def test_a_batch_is_mixed_alike_wherever_it_is_asked_for_and_the_next_otherwise():
    one, same = (mixing(tiny_settings(MIXUP_ALPHA=0.2, CUTMIX_ALPHA=1.0)) for _ in range(2))
    assert one is not None and same is not None
    found = [one(1, batch) for batch in range(40)]
    assert found == [same(1, batch) for batch in range(40)] and len(set(found)) == 40
    assert {mix.box is None for mix in found} == {True, False}  # both kinds
