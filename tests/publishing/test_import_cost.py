"""train.py with the Hub and W&B: what arrives, and that neither can stop a run."""

from hub_stub import HubStub
from tiny import train


def hub_variables(hub: HubStub, home) -> dict[str, str]:
    return {name: value for name, value in hub.client_env(home).items() if name.startswith(("HF_", "NO_PROXY"))}


def train_with(monkeypatch, folder, variables, **settings):
    """train() inherits this process's environment, less HF_ and WANDB_ names: those are given here."""
    import tiny

    plain = tiny.environment
    monkeypatch.setattr(tiny, "environment", lambda **more: plain(**{"HF_HUB_OFFLINE": "0", **variables, **more}))
    return train(folder, RUN_NAME="a", **settings)


def test_the_best_folder_arrives_on_the_hub_as_it_lies_there(tmp_path, monkeypatch):
    with HubStub() as hub:
        result = train_with(monkeypatch, tmp_path, hub_variables(hub, tmp_path / "home"), HUB_REPO_ID="me/captioner")
        best = tmp_path / "checkpoints/a/best"
        local = {str(p.relative_to(best)): p.read_bytes() for p in best.rglob("*") if p.is_file()}
        assert result.returncode == 0 and {name: hub.files.get(name) for name in local} == local
        assert hub.private == {"me/captioner": True}
    assert "/me/captioner" in result.stdout and not list((tmp_path / "checkpoints/a").glob(".best-upload-*"))


def test_a_hub_that_is_down_costs_the_run_nothing_and_the_end_says_what_to_type(tmp_path, monkeypatch):
    with HubStub() as hub:
        hub.fail_next(float("inf"), 401)
        result = train_with(monkeypatch, tmp_path, hub_variables(hub, tmp_path / "home"), HUB_REPO_ID="me/captioner")
    assert result.returncode == 0 and "Traceback" not in result.stderr
    assert "hf upload me/captioner checkpoints/a/best . --repo-type model" in result.stdout
    assert (tmp_path / "checkpoints/a/best/model.safetensors").exists()


def test_a_run_is_tracked_offline_and_stays_one_run_when_resumed(tmp_path, monkeypatch):
    first = train_with(monkeypatch, tmp_path, {}, WANDB_MODE="offline")
    assert first.returncode == 0 and "wandb sync" in first.stdout
    identity = (tmp_path / "checkpoints/a/wandb_id.txt").read_text()
    again = train(tmp_path, "--resume-checkpoint-path", "latest", RUN_NAME="a", WANDB_MODE="offline", NUM_EPOCHS=3)
    assert again.returncode == 0 and (tmp_path / "checkpoints/a/wandb_id.txt").read_text() == identity
    assert len(list((tmp_path / "checkpoints/a/wandb").glob("offline-run-*"))) == 2
