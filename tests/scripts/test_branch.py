"""A branch of a run always ends with a best/ of its own."""

import json
from pathlib import Path

from taught import train


def test_a_branch_without_epochs_of_its_own_has_a_best_of_its_own(tmp_path, monkeypatch, capsys):
    """From the last step of a run whose best/ is of another epoch: nothing is left to train, nothing to bring along."""
    monkeypatch.chdir(tmp_path)
    train(RUN_NAME="a", NUM_EPOCHS=1)
    config = Path("checkpoints/a/best/config.json")
    config.write_text(json.dumps({**json.loads(config.read_text()), "epoch": 99}))
    [last] = Path("checkpoints/a").glob("checkpoint_step_*.pt")
    train(RUN_NAME="b", NUM_EPOCHS=1, RESUME_CHECKPOINT_PATH=last)
    assert "best         epoch 1" in capsys.readouterr().out
    assert json.loads(Path("checkpoints/b/best/config.json").read_text())["epoch"] == 1
