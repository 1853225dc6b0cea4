"""Captioning as a task: its schedule, a stop while it validates, what of a teacher is refused or done but once."""

import pytest
import torch
from taught import make_all, train
from tiny import tiny_settings

from basics.errors import UserError
from dataset import PairLoader
from distillation.teacher import GenerativeImageTextTeacher
from tasks import captioning, criteria
from tasks.captioning import build_captioning, find_teacher, share_of_peak
from tasks.criteria import DISTILLATION, Ingredients, check_loss
from training.processes import OneProcess
from training.run import start_run
from training.stopping import Stopped, StopSignal


def test_self_critical_steps_have_a_rate_of_their_own_that_falls_to_nothing():
    settings = tiny_settings(
        LEARNING_RATE=1e-3,
        SCST_LEARNING_RATE=1e-4,
        WARMUP_STEPS=0,
        NUM_EPOCHS=2,
        SCST_EPOCHS=2,
        BEST_METRIC="cider",
        GROUP_CAPTIONS=True,
    )
    rates = [1e-3 * share_of_peak(settings, step, steps_per_epoch=2) for step in range(9)]
    assert rates == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3, 1e-4, 0.75e-4, 0.5e-4, 0.25e-4, 0], abs=1e-9)


def test_a_stop_is_heard_while_validation_captions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = build_captioning(tiny_settings(NUM_VALIDATION_CAPTIONS=4), None, OneProcess())
    run = start_run(task, tmp_path / "run", OneProcess())
    with StopSignal(run.processes) as stop:
        assert len(task.validate(run, {"val_loss": 1.0}, stop).samples) == 1
        stop.requested = "SIGTERM"
        with pytest.raises(Stopped):
            task.validate(run, {"val_loss": 1.0}, stop)


@pytest.mark.parametrize("changes", [{}, {"DISTILL_TEMPERATURE": 2.0}, {"DISTILL_ALPHA": 0, "DISTILL_FEATURES": "a=b"}])
def test_a_teacher_of_captions_alone_is_refused_before_it_is_loaded(tmp_path, changes):
    """BLIP cannot say what it expects next, whatever is asked beside; its captions would have taken minutes first."""
    (tmp_path / "config.json").write_text('{"model_type": "blip"}')
    teacher = {"DISTILL": "teacher", "TEACHER_MODEL_NAME": str(tmp_path), "DISTILL_CAPTIONS": 0.5}
    with pytest.raises(UserError, match="captions only|captioner of this project only"):
        find_teacher(tiny_settings(**teacher, **changes), torch.device("cpu"))


def test_a_captioner_to_start_from_and_a_teacher_are_loaded_once(git, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(RUN_NAME="first", NUM_EPOCHS=1)
    loaded, load = [], captioning.load_captioner
    monkeypatch.setattr(captioning, "load_captioner", lambda *given: loaded.append(given[0]) or load(*given))
    train(RUN_NAME="second", NUM_EPOCHS=1, FINETUNE_FROM="checkpoints/first/best")
    assert [str(name) for name in loaded] == ["checkpoints/first/best", "checkpoints/second/best"]  # the last is scored
    teachers, load_teacher = [], GenerativeImageTextTeacher.__init__
    monkeypatch.setattr(
        GenerativeImageTextTeacher, "__init__", lambda *given: teachers.append(given) or load_teacher(*given)
    )
    wishes = {"TOKENIZER": "teacher", "DISTILL_CAPTIONS": 0.5, "DISTILL_BEAMS": 1, "DISTILL_TOP_K": 8}
    features = {"DISTILL_FEATURES": "projection=git.visual_projection", "NUM_EPOCHS": 1, "DATA_DIR": "other"}
    train(RUN_NAME="taught", DISTILL="teacher", TEACHER_MODEL_NAME=git, **wishes, **features)
    assert len(teachers) == 1


@pytest.mark.parametrize("cached", [True, False])
def test_a_teacher_looks_at_each_crop_once(git, tmp_path, monkeypatch, cached):
    """Live predictions and features come from the same pass."""
    monkeypatch.chdir(tmp_path)
    settings = {"DISTILL_CACHE": cached, "DISTILL_FEATURES": "projection=git.visual_projection", "GROUP_CAPTIONS": True}
    made = make_all(git, **settings)
    train_set, looks = made.train_set, []
    targets, _ = made.soft_targets()
    source = PairLoader(train_set, made.settings, made.tokenizer.pad_id, shuffle=False)
    given = Ingredients(made.settings, made.model, made.tokenizer, source, targets, made.teacher)
    criterion = DISTILLATION["teacher"](given, run=None)
    if not cached:
        targets.teacher = made.teacher
    made.teacher.model.git.image_encoder.register_forward_hook(lambda *call: looks.append(len(call[1])))
    batch = next(source.batches())
    loss, count = criterion(made.model.train(), batch)
    assert loss.isfinite() and count == criterion.count(batch) and len(looks) == 1


@pytest.mark.parametrize("name", ["teacher", "momentum", "self_critical"])
def test_what_needs_more_than_pairs_is_no_loss(name):
    with pytest.raises(UserError, match="LOSS must be one of 'cross_entropy', got"):
        check_loss(tiny_settings(LOSS=name))


def test_a_teacher_is_blended_into_cross_entropy_alone(monkeypatch):
    monkeypatch.setitem(criteria.LOSSES, "focal", criteria.plain)
    with pytest.raises(UserError, match="DISTILL blends a teacher into cross-entropy"):
        check_loss(tiny_settings(LOSS="focal", DISTILL="momentum", EMA_DECAY=0.9))


@pytest.mark.parametrize("warmup, said", [(10, True), (9, False), (0.5, False), (0, False)])
def test_a_warm_up_as_long_as_the_run_is_said(warmup, said, capsys):
    captioning.say_long_warm_up(tiny_settings(WARMUP_STEPS=warmup), steps=10)
    assert ("never reached" in capsys.readouterr().out) is said


def test_a_warm_up_may_be_a_share_of_the_run():
    settings = tiny_settings(WARMUP_STEPS=0.25, NUM_EPOCHS=2)
    assert [share_of_peak(settings, step, steps_per_epoch=4) for step in (0, 1, 2)] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("pictures, epochs", [(20, 60), (150, 40), (6000, 14), (10**6, 4)])
def test_few_pictures_are_seen_more_often(pictures, epochs, capsys):
    assert captioning.with_epochs(tiny_settings(NUM_EPOCHS="auto"), pictures).NUM_EPOCHS == epochs
    assert f"{epochs} for {pictures:,} training pictures" in capsys.readouterr().out
