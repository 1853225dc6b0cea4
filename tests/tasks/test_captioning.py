"""Captioning as a task: its schedule, its criteria, and what of a teacher is refused before work."""

import pytest
from tiny import tiny_settings

from tasks.captioning import share_of_peak


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
