"""Captioning as a task: its schedule, its criteria, and a stop in the middle of validating."""

import pytest
from tiny import tiny_settings

from tasks.captioning import build_captioning, share_of_peak
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
    task = build_captioning(tiny_settings(NUM_VALIDATION_CAPTIONS=4), None)
    run = start_run(task, tmp_path / "run", OneProcess())
    with StopSignal(run.processes) as stop:
        assert len(task.validate(run, {"val_loss": 1.0}, stop).samples) == 1
        stop.requested = "SIGTERM"
        with pytest.raises(Stopped):
            task.validate(run, {"val_loss": 1.0}, stop)
