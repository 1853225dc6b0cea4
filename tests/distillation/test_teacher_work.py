"""A teacher in a run: no trace of it in the captioner, resumed to the bit, its captions, warnings and features."""

import re
import shutil

import numpy as np
import pytest
import torch
from taught import CPU, make_all, train
from tiny import TINY, load_weights, same_weights

import inference
from basics.errors import UserError
from basics.settings import SettingsError, load_settings
from captioner.folder import load_captioner
from dataset import ImageTextDataset
from distillation.examine import better_than_teacher
from distillation.teacher import GenerativeImageTextTeacher, load_teacher
from distillation.teacher_work import check_variety


def test_a_run_with_a_teacher_ends_in_a_captioner_without_it(tmp_path, git, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train(RUN_NAME="taught", DISTILL="teacher", TEACHER_MODEL_NAME=git, DISTILL_TOP_K=16)
    assert re.search(r"teacher +predicts \d+\.\d% of our targets", capsys.readouterr().out)
    card = (tmp_path / "checkpoints" / "taught" / "best" / "README.md").read_text()
    assert re.search(r"learned from the teacher git: its predictions \(share 0.5, 16 likeliest tokens, \d+%", card)
    train(RUN_NAME="alone")
    taught, alone = (
        load_weights(sorted((tmp_path / "checkpoints" / name).glob("checkpoint_step_*"))[-1])
        for name in ("taught", "alone")
    )
    assert {n: w.shape for n, w in taught.items()} == {n: w.shape for n, w in alone.items()}
    assert not same_weights(taught, alone)
    shutil.rmtree(tmp_path / "data" / "shapes" / "teacher")
    monkeypatch.setattr(GenerativeImageTextTeacher, "__init__", lambda *_: pytest.fail("the teacher was loaded"))
    picture = next((tmp_path / "data" / "shapes" / "images").glob("*.png"))
    assert inference.main([str(picture), "--checkpoint", "checkpoints/taught/best"]) in (0, None)
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    "changes",
    [
        {"DISTILL": "teacher", "DISTILL_CAPTIONS": 0.3, "DISTILL_BEAMS": 2, "DISTILL_TOP_K": 16},
        {"DISTILL": "momentum", "EMA_DECAY": 0.99, "PRECISION": "bf16"},
        {
            "DISTILL": "teacher",
            "DISTILL_ALPHA": 0,
            "DISTILL_FEATURES": "projection=projection",
            "TEACHER_MODEL_NAME": "checkpoints/teacher/best",
            "GROUP_CAPTIONS": False,
            "NUM_WORKERS": 1,
            "GRADIENT_ACCUMULATION_STEPS": 2,
        },
    ],
)
def test_a_stopped_run_with_a_teacher_goes_on_to_the_bit(tmp_path, git, monkeypatch, changes):
    monkeypatch.chdir(tmp_path)
    if "DISTILL_FEATURES" in changes:  # one of our captioners, whose weights are random numbers before they are loaded
        train(RUN_NAME="teacher", NUM_EPOCHS=1)
    changes = {"TEACHER_MODEL_NAME": git, **changes, "CHECKPOINT_EVERY_STEPS": 1, "KEEP_LAST_N": 9}
    train(RUN_NAME="whole", **changes)
    steps = sorted((tmp_path / "checkpoints" / "whole").glob("checkpoint_step_*"))
    train(RUN_NAME="resumed", RESUME_CHECKPOINT_PATH=steps[0], **changes)
    last = tmp_path / "checkpoints" / "resumed" / steps[-1].name
    assert same_weights(load_weights(last), load_weights(steps[-1]))


def test_the_teachers_captions_are_mixed_in_at_their_share_and_change_from_epoch_to_epoch(made):
    settings, pictures = made.settings.replace(DISTILL_CAPTIONS=0.4), made.train_set.pictures
    captions = made.work(DISTILL_CAPTIONS=0.4, DISTILL_BEAMS=2).captions()
    train_set = ImageTextDataset(pictures, made.tokenizer, settings, mixed_in=captions)
    own, shown = len(made.train_set), []
    assert len(train_set) == own and len(train_set.captions) == own + len(pictures)
    for train_set.epoch in (0, 1):
        shown.append([row["caption_number"] for row in train_set.__getitems__(list(range(own)))])
    shares = [np.mean(np.array(row) >= own) for row in shown]
    assert all(0.25 < share < 0.55 for share in shares) and shown[0] != shown[1]
    assert all(train_set.image_of(c) == train_set.image_numbers[p] for row in shown for p, c in enumerate(row))


def test_of_the_teachers_beams_the_nearest_to_the_references_is_taken(made, monkeypatch):
    references, asked = made.train_set.references, iter(range(len(made.train_set.pictures)))
    monkeypatch.setattr(
        GenerativeImageTextTeacher,
        "captions",
        lambda _, pixels, *how: [["zebra", references[next(asked)][0], "a"] for _ in pixels],
    )
    assert made.work(DISTILL_CAPTIONS=0.4).captions() == [row[0] for row in references]


def test_a_worse_teacher_and_one_that_never_ends_are_said(made, capsys):
    _, findings = made.soft_targets()
    assert "warning      the teacher expects the end" in capsys.readouterr().out
    assert "better than its teacher" in better_than_teacher(findings, 0.01, made.val_set)[0]
    assert better_than_teacher(findings, 1e3, made.val_set) == []


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"DISTILL": "teacher"}, "needs TEACHER_MODEL_NAME"),
        ({"DISTILL": "teacher", "TEACHER_MODEL_NAME": "./nowhere"}, "is not here"),
        ({"DISTILL": "momentum"}, "needs EMA_DECAY"),
        ({"DISTILL": "teacher", "TEACHER_MODEL_NAME": "x/y", "DISTILL_ALPHA": 0}, "both 0"),
        ({"TOKENIZER": "teacher"}, "needs TEACHER_MODEL_NAME"),
        ({"DISTILL": "momentum", "EMA_DECAY": 0.9, "DISTILL_CAPTIONS": 0.5}, "needs a teacher of its own"),
        ({"DISTILL": "teacher", "TEACHER_MODEL_NAME": "x/y", "DISTILL_FEATURES": " = "}, "module of ours"),
    ],
)
def test_settings_that_cannot_be_taught_with_are_refused(changes, words):
    with pytest.raises(SettingsError, match=words):
        load_settings([], **{**TINY, **changes})


def test_a_teacher_that_is_none_is_refused_in_one_line(tmp_path):
    for name, words in {"nowhere": "there is no teacher", str(tmp_path): "no config.json"}.items():
        with pytest.raises(UserError, match=words) as caught:
            load_teacher(name, CPU)
        assert "\n" not in str(caught.value)


def test_features_of_both_are_pulled_together_and_the_projector_stays_out_of_the_captioner(tmp_path, git, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(
        RUN_NAME="taught",
        DISTILL="teacher",
        TEACHER_MODEL_NAME=git,
        DISTILL_TOP_K=16,
        DISTILL_FEATURES="projection=git.visual_projection",
        CHECKPOINT_EVERY_STEPS=2,
        KEEP_LAST_N=9,
    )
    steps = sorted((tmp_path / "checkpoints" / "taught").glob("checkpoint_step_*"))
    first, last = load_weights(steps[0]), load_weights(steps[-1])
    projector = "training_only.feature_loss.projector.weight"
    assert first[projector].shape == (48, 16) and not torch.equal(first[projector], last[projector])
    for path in (tmp_path / "checkpoints" / "taught" / "best", steps[-1]):
        assert not any("training_only" in name for name in load_captioner(path).model.state_dict())


def test_modules_that_are_not_there_or_do_not_run_are_named(git, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for pair, words in {
        "projektion=git.visual_projection": "no module 'projektion'.*projection",
        "training_only=git.visual_projection": "'training_only' does not run",
        "projection=git.encoder.layer.1": "'git.encoder.layer.1' does not run",  # sees captions too
        "decoder.layers.0=git.visual_projection": "'decoder.layers.0' makes more of a picture than one map",
        "decoder.norm=git.visual_projection": "'decoder.norm' makes no feature map",
    }.items():
        with pytest.raises(UserError, match=words):
            make_all(git, DISTILL_FEATURES=pair)


@pytest.mark.parametrize("captions", [["a dog"] * 2, ["a dog"] * 99 + ["a cat"]])
def test_a_teacher_that_says_the_same_of_all_pictures_is_refused(captions):
    with pytest.raises(UserError, match=f'for {len(captions)} pictures, "a dog": it would teach'):
        check_variety(captions)
    check_variety(["a dog"])
    check_variety(["a dog", "a cat"] * 5)
