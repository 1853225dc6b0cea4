"""A run of 0.1.0, from before the rooms, goes on: its checkpoint, its best/ and its feature cache (older_run.tar.gz).

It was made by that version's own train.py: drawn shapes, a tiny frozen ViT, cached views, momentum distillation and
dropout, stopped in the middle of epoch 59 of 60. last.safetensors holds the weights that the version itself ended with.
"""

import json
import os
import tarfile
from pathlib import Path

import pytest
import torch
import transformers.configuration_utils
from safetensors.torch import load_file
from taught import train
from tiny import load_weights

from basics.checkpoint_file import read_checkpoint
from basics.settings import load_settings
from captioner.folder import load_captioner
from networks.decoding_options import DecodingOptions
from sources.images import load_image
from training import feature_cache
from training.resume import Resumed, settings_for_resume

STEP = "checkpoints/old/checkpoint_step_00000351.pt"


@pytest.fixture
def older(tmp_path, monkeypatch):
    with tarfile.open(Path(__file__).with_name("older_run.tar.gz")) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["checkpoints/old/best", STEP])
def test_captioners_load_with_the_settings_of_today(older, name):
    settings = load_captioner(name).config["settings"]
    assert (settings["DECODER"], settings["TASK"], settings["LOSS"]) == ("transformer", "caption", "cross_entropy")


@pytest.mark.parametrize("beam", [1, 3])
def test_best_captions_as_it_did(older, beam):
    expected = json.loads((older / "expected.json").read_text())
    images = [load_image(older / "data/shapes/images" / name) for name in expected["pictures"]]
    rows = load_captioner("checkpoints/old/best").caption(images, DecodingOptions(beam_size=beam))
    assert [row[0][0] for row in rows] == expected["captions"][str(beam)]
    assert [row[0][1].score for row in rows] == pytest.approx(expected["scores"][str(beam)], abs=1e-3)


def test_the_run_goes_on_from_the_middle_of_its_epoch_with_its_features(older, monkeypatch):
    config = json.loads((older / "checkpoints/old/best/encoder/config.json").read_text())
    # a feature cache belongs to the encoder's config.json, in which transformers writes its own version
    monkeypatch.setattr(transformers.configuration_utils, "__version__", config["transformers_version"])
    monkeypatch.setattr(feature_cache, "encode", lambda *_: pytest.fail("the pictures were encoded again"))
    settings = read_checkpoint(Path(STEP))["config"]
    changed = {name: value for name, value in settings.items() if name != "RESUME_CHECKPOINT_PATH"}
    train(**changed, RESUME_CHECKPOINT_PATH=STEP)
    found, expected = load_weights(older / "checkpoints/old/checkpoint_step_00000360.pt"), load_file("last.safetensors")
    assert found.keys() == expected.keys()
    for name, weight in expected.items():  # near it: dropout is drawn for captions without padding since
        torch.testing.assert_close(found[name], weight, rtol=0, atol=5e-3)


def test_an_older_word_for_a_teacher_is_no_difference(older, capsys):
    checkpoint = torch.load(STEP, weights_only=True)
    torch.save(checkpoint | {"config": checkpoint["config"] | {"DISTILL": "git"}}, STEP)
    config = {n: v for n, v in checkpoint["config"].items() if n != "RESUME_CHECKPOINT_PATH"}
    teacher = {"DISTILL": "teacher", "TEACHER_MODEL_NAME": "user/name", "EMA_DECAY": None}
    today = load_settings([], **{**config, **teacher}).replace(TEACHER_MODEL_NAME=None, EMA_DECAY=config["EMA_DECAY"])
    capsys.readouterr()
    resumed = settings_for_resume(today, Resumed(Path(STEP), read_checkpoint(Path(STEP))))
    assert capsys.readouterr().out.count("\n") == 1  # the line that says what is resumed
    assert resumed.DISTILL == "teacher"


def test_a_best_that_a_kill_left_aside_is_put_back(older):
    os.replace("checkpoints/old/best", "checkpoints/old/best.old")
    assert load_captioner("checkpoints/old/best").config["epoch"] == 60
