"""A run on shards is the run on the folder that they were written from, to the bit."""

from in_process import call, train
from tiny import load_weights, same_weights

import evaluate
import prepare_dataset
import write_shards


def test_a_run_on_shards_ends_with_the_weights_of_one_on_the_folder(tmp_path):
    vocabulary = {"VOCAB_PATH": "vocab.json", "MERGES_PATH": "merges.txt", "NUM_EPOCHS": 1}
    train(tmp_path, RUN_NAME="folder", **vocabulary)
    call(write_shards.main, "--data-dir", "data/shapes", "--output", "shards", "--pictures-per-shard", 10, cwd=tmp_path)
    assert train(tmp_path, RUN_NAME="shards", DATASET="webdataset", SHARDS="shards", **vocabulary).returncode == 0
    last = [sorted((tmp_path / "checkpoints" / name).glob("checkpoint_step_*.pt"))[-1] for name in ("folder", "shards")]
    assert same_weights(*map(load_weights, last))
    scores = [
        call(evaluate.main, "--checkpoint", f"checkpoints/{name}/best", cwd=tmp_path).stdout
        for name in ("folder", "shards")
    ]
    assert scores[0].splitlines()[:-1] == scores[1].splitlines()[:-1]  # the last says which checkpoint


def test_a_dataset_of_shards_without_shards_says_what_to_type(tmp_path):
    result = call(prepare_dataset.main, "--dataset", "webdataset", cwd=tmp_path)
    assert result.returncode == 1 and "needs SHARDS, as in --shards shards/" in result.stderr
