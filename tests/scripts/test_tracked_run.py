"""train.py with the Hub and W&B: what arrives, and that neither can stop a run."""

from types import SimpleNamespace

import pytest
from hub_stub import HubStub
from tiny import TINY, flags, run

SETTINGS = {**TINY, "RUN_NAME": "a", "HUB_REPO_ID": "me/captioner", "WANDB_MODE": "offline"}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A run, then its third epoch while the Hub is down, as processes: their environment is read when they start."""
    folder = tmp_path_factory.mktemp("tracked")
    identity, best = folder / "checkpoints/a/wandb_id.txt", folder / "checkpoints/a/best"
    with HubStub() as hub:
        online = {**hub.client_env(folder / "home"), "HF_HUB_OFFLINE": "0"}
        first = run("train.py", *flags(**SETTINGS), cwd=folder, **online)
        left = {str(p.relative_to(best)): p.read_bytes() for p in best.rglob("*") if p.is_file()}
        arrived, name = hub.files, identity.read_text()
        hub.fail_next(float("inf"), 401)
        more = flags(**{**SETTINGS, "NUM_EPOCHS": 3, "RESUME_CHECKPOINT_PATH": "latest"})
        again = run("train.py", *more, cwd=folder, **online)
    return SimpleNamespace(**locals())


def test_the_best_folder_arrives_on_the_hub_as_it_lies_there(tracked):
    assert tracked.first.returncode == 0 and "/me/captioner" in tracked.first.stdout
    assert tracked.left and {name: tracked.arrived.get(name) for name in tracked.left} == tracked.left
    assert tracked.hub.private == {"me/captioner": True}
    assert not list((tracked.folder / "checkpoints/a").glob(".best-upload-*"))


def test_a_hub_that_is_down_costs_the_run_nothing_and_the_end_says_what_to_type(tracked):
    assert tracked.again.returncode == 0 and "Traceback" not in tracked.again.stderr
    assert "epoch   3/3" in tracked.again.stdout
    assert "hf upload me/captioner checkpoints/a/best . --repo-type model" in tracked.again.stdout
    assert (tracked.best / "model.safetensors").exists()


def test_a_run_is_tracked_offline_and_stays_one_run_when_resumed(tracked):
    assert "wandb sync" in tracked.first.stdout and "wandb sync" in tracked.again.stdout
    assert tracked.identity.read_text() == tracked.name
    assert len(list((tracked.folder / "checkpoints/a/wandb").glob("offline-run-*"))) == 2
