"""Going on from a checkpoint: which one is the latest, and every generator where it was."""

import io
import os
import random

import numpy as np
import pytest
import torch
from tiny import tiny_settings

from basics.errors import UserError
from training.checkpoint import restore_rng, rng_state
from training.resume import find_resume_path


def test_latest_is_the_newest_run_or_that_of_the_run_name(tmp_path):
    for age, run in ((100, "old"), (1, "new")):
        path = tmp_path / run / "checkpoint_step_00000005.pt"
        path.parent.mkdir()
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    latest = dict(CHECKPOINT_DIR=str(tmp_path), RESUME_CHECKPOINT_PATH="latest")
    assert find_resume_path(tiny_settings(**latest)).parent.name == "new"
    assert find_resume_path(tiny_settings(**latest, RUN_NAME="old")).parent.name == "old"
    with pytest.raises(UserError, match="holds no checkpoint"):
        find_resume_path(tiny_settings(**latest, RUN_NAME="none-such"))


def test_every_global_generator_continues_where_it_was():
    state = rng_state()
    torch.save(state, buffer := io.BytesIO())
    drawn = [(torch.rand(1).item(), np.random.rand(), random.random()) for _ in range(2)]
    buffer.seek(0)
    restore_rng(torch.load(buffer, weights_only=True))
    assert [(torch.rand(1).item(), np.random.rand(), random.random()) for _ in range(2)] == drawn


def test_the_generator_of_mps_continues_where_it_was(monkeypatch):
    generator = {"state": torch.tensor([1, 2, 3], dtype=torch.uint8)}
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: generator["state"])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: generator.update(state=state))
    saved = rng_state()
    generator["state"] = torch.zeros(3, dtype=torch.uint8)
    older = {name: value for name, value in saved.items() if name != "mps"}
    for unknown in (older, saved | {"mps": None}):  # written before it was kept, or on a machine without MPS
        restore_rng(unknown)
        assert generator["state"].tolist() == [0, 0, 0]
    restore_rng(saved)
    assert generator["state"].tolist() == [1, 2, 3]
