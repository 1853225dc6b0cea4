"""train.py goes on from a checkpoint or branches off: to the bit, over nothing that is there, or not at all."""

import json
import shutil

import pytest
from finished_run import LAST, RUN, contents, copy_data, weights
from in_process import train
from tiny import load_weights, same_weights, save_tiny_vit


@pytest.mark.parametrize(
    "changes",
    [
        {"PRECISION": "bf16"},
        {"PRECISION": "fp16"},
        {"ENCODER_MODEL_NAME": "vit", "ENCODER_TRAINABLE": "none", "CACHE_FEATURES": "true"},
    ],
)
def test_half_precision_and_cached_features_resume_to_the_bit(finished, tmp_path, changes):
    copy_data(finished, tmp_path)
    save_tiny_vit(tmp_path / "vit")
    settings = {**RUN, **changes, "NUM_EPOCHS": 1, "SCST_EPOCHS": 1, "KEEP_LAST_N": 10}
    whole, again = (tmp_path / "checkpoints" / name for name in ("a", "b"))
    assert train(tmp_path, **settings).returncode == 0
    for step in (3, 8):  # in the middle of either epoch
        start = whole / f"checkpoint_step_{step:08}.pt"
        result = train(tmp_path, "--resume-checkpoint-path", start, **{**settings, "RUN_NAME": "b"})
        assert result.returncode == 0
        last = "checkpoint_step_00000010.pt"
        assert same_weights(load_weights(whole / last), load_weights(again / last))
        shutil.rmtree(again)


def test_a_run_never_starts_over_another(finished):
    before = {p: p.stat().st_mtime_ns for p in (finished / "checkpoints/a").rglob("*")}
    result = train(finished, **RUN)
    assert result.returncode == 1 and "already holds a run" in result.stderr
    old = train(
        finished, "--resume-checkpoint-path", "checkpoints/a/checkpoint_step_00000039.pt", **{**RUN, "RUN_NAME": "none"}
    )
    assert old.returncode == 1 and "goes on after" in old.stderr
    assert before == {p: p.stat().st_mtime_ns for p in (finished / "checkpoints/a").rglob("*")}


@pytest.mark.parametrize("left", ["log.jsonl", "checkpoint_step_00000005.pt"])
def test_a_branch_never_goes_over_another_run(finished, tmp_path, left):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    source, target = tmp_path / "checkpoints/a", tmp_path / "checkpoints/b"
    target.mkdir()
    if left == "log.jsonl":  # all its checkpoints were deleted
        shutil.copy(source / left, target)
        shutil.copytree(source / "best", target / "best")
    else:
        shutil.copy(source / LAST, target / left)
    before = contents(tmp_path)
    result = train(tmp_path, "--resume-checkpoint-path", f"checkpoints/a/{LAST}", **{**RUN, "RUN_NAME": "b"})
    assert result.returncode == 1 and "already holds a run" in result.stderr
    assert before == contents(tmp_path)


def test_a_run_goes_on_in_its_folder_however_that_is_spelled(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    result = train(tmp_path, "--resume-checkpoint-path", tmp_path / "checkpoints/a" / LAST, **RUN)
    assert result.returncode == 0 and "best         epoch" in result.stdout


@pytest.mark.parametrize("damage", ["missing", "cut", "foreign"])
def test_a_checkpoint_that_cannot_be_used_is_one_error_and_nothing_is_overwritten(finished, tmp_path, damage):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "checkpoints/a" / LAST
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:5000] if damage == "cut" else b"not a checkpoint")
    before = contents(tmp_path)
    result = train(tmp_path, "--resume-checkpoint-path", f"checkpoints/a/{LAST}", **{**RUN, "RUN_NAME": "none"})
    assert result.returncode == 1 and LAST in result.stderr and result.stderr.count("\n") == 1
    assert before == contents(tmp_path)


def test_another_vocabulary_is_refused_with_both_hashes(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / "data/shapes" / name).unlink()
    result = train(tmp_path, "--resume-checkpoint-path", "latest", **{**RUN, "VOCAB_SIZE": 280})
    assert result.returncode == 1 and result.stderr.count("hash") == 2


def test_the_architecture_is_the_checkpoints_and_the_rest_the_settings(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    changes = {**RUN, "DECODER_LAYERS": 2, "LEARNING_RATE": 0.5, "NUM_EPOCHS": 9}
    result = train(tmp_path, "--resume-checkpoint-path", "latest", **changes)
    assert result.returncode == 0
    assert "DECODER_LAYERS stays 1" in result.stdout and "LEARNING_RATE is now 0.5" in result.stdout


def test_other_pictures_in_the_middle_of_an_epoch_are_refused(finished, tmp_path):
    """As many as before: a picture has gone to validation, one of its to training."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "data/shapes/splits.json"
    splits = json.loads(path.read_text())
    splits["train"][0], splits["val"][0] = splits["val"][0], splits["train"][0]
    path.write_text(json.dumps(splits))
    middle = "checkpoints/a/checkpoint_step_00000039.pt"
    result = train(tmp_path, "--resume-checkpoint-path", middle, **{**RUN, "RUN_NAME": "b"})
    assert result.returncode == 1 and "in the middle of an epoch of other pictures" in result.stderr


def test_another_batch_size_in_the_middle_of_an_epoch_is_refused(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    start, changes = "checkpoints/a/checkpoint_step_00000039.pt", {"RUN_NAME": "b", "BATCH_SIZE": 10}
    result = train(tmp_path, "--resume-checkpoint-path", start, **{**RUN, **changes})
    assert result.returncode == 1 and "BATCH_SIZE must stay 40" in result.stderr


def test_a_branch_keeps_the_best_so_far_and_leaves_the_old_run_alone(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    old = contents(tmp_path / "checkpoints/a")
    shutil.copytree(tmp_path / "checkpoints/a/best", tmp_path / "checkpoints/b/best")  # as a first try may have left it
    start = "checkpoints/a/checkpoint_step_00000039.pt"
    result = train(tmp_path, "--resume-checkpoint-path", start, **{**RUN, "RUN_NAME": "b"})
    assert result.returncode == 0 and (tmp_path / "checkpoints/b/best/model.safetensors").exists()
    assert same_weights(weights(tmp_path, "b"), weights(finished))
    assert old == contents(tmp_path / "checkpoints/a")


def test_a_branch_leaves_a_best_of_later_epochs_behind(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "checkpoints/a/best/config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps({**content, "epoch": content["epoch"] + 1}))
    start = "checkpoints/a/checkpoint_step_00000039.pt"
    result = train(tmp_path, "--resume-checkpoint-path", start, **{**RUN, "RUN_NAME": "b"})
    assert result.returncode == 0 and "is no longer that of epoch" in result.stdout
    assert json.loads((tmp_path / "checkpoints/b/best/config.json").read_text())["epoch"] == 8  # the only one it had
    assert "best         epoch 8" in result.stdout


def test_a_branch_without_epochs_of_its_own_has_a_best_of_its_own(finished, tmp_path):
    """From the last step of a run whose best/ is of another epoch: nothing is left to train, nothing to bring along."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "checkpoints/a/best/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "epoch": 99}))
    result = train(tmp_path, "--resume-checkpoint-path", f"checkpoints/a/{LAST}", **{**RUN, "RUN_NAME": "b"})
    assert result.returncode == 0 and "best         epoch 8" in result.stdout
    assert json.loads((tmp_path / "checkpoints/b/best/config.json").read_text())["epoch"] == 8
