"""A run on shards is the run on the folder that they were written from, to the bit."""

import pytest
from in_process import call, train
from tiny import load_weights, same_weights, save_tiny_vit

import evaluate
import prepare_dataset
import write_shards
from training import feature_cache

FROZEN = {"ENCODER_MODEL_NAME": "vit", "ENCODER_TRAINABLE": "none", "CACHE_FEATURES": True}


def weights_of(run):
    return load_weights(sorted(run.glob("checkpoint_step_*.pt"))[-1])


@pytest.mark.parametrize("changes", [{}, FROZEN])
def test_a_run_on_shards_ends_with_the_weights_of_one_on_the_folder(tmp_path, monkeypatch, changes):
    monkeypatch.setattr(feature_cache, "PART_BYTES", 2_000)
    save_tiny_vit(tmp_path / "vit")
    settings = {"VOCAB_PATH": "vocab.json", "MERGES_PATH": "merges.txt", "NUM_EPOCHS": 1, **changes}
    train(tmp_path, RUN_NAME="folder", **settings)
    call(write_shards.main, "--data-dir", "data/shapes", "--output", "shards", "--pictures-per-shard", 10, cwd=tmp_path)
    assert train(tmp_path, RUN_NAME="shards", DATASET="webdataset", SHARDS="shards", **settings).returncode == 0
    assert same_weights(*(weights_of(tmp_path / "checkpoints" / name) for name in ("folder", "shards")))
    assert (len(list(tmp_path.glob("data/webdataset/features/train-*/*.bin"))) > 1) == bool(changes)
    scores = [
        call(evaluate.main, "--checkpoint", f"checkpoints/{name}/best", cwd=tmp_path).stdout
        for name in ("folder", "shards")
    ]
    assert scores[0].splitlines()[:-1] == scores[1].splitlines()[:-1]  # the last says which checkpoint


def test_a_dataset_of_shards_without_shards_says_what_to_type(tmp_path):
    result = call(prepare_dataset.main, "--dataset", "webdataset", cwd=tmp_path)
    assert result.returncode == 1 and "needs SHARDS, as in --shards shards/" in result.stderr
