"""Whole runs of train.py: what they leave and print, what stops them, what settings do."""

import json
import math
import re
import sys

import pytest
import torch
from finished_run import LAST, copy_data
from in_process import call, train
from PIL import Image
from tiny import ROOT, TINY, load_weights
from torch.optim.optimizer import register_optimizer_step_pre_hook

import inference
from basics.checkpoint_file import REQUIRED


def test_a_run_leaves_exactly_these_files(finished):
    folder = finished / "checkpoints/a"
    names = sorted(p.name for p in folder.iterdir())
    steps, bests = ([n for n in names if n.startswith(f"checkpoint_{kind}_")] for kind in ("step", "epoch"))
    assert steps == ["checkpoint_step_00000039.pt", LAST]  # KEEP_LAST_N is 2
    assert 1 <= len(bests) <= 2
    assert sorted(set(names) - {*steps, *bests}) == ["best", "evaluation.json", "log.jsonl", "loss.png"]
    assert sorted(str(p.relative_to(folder / "best")) for p in (folder / "best").rglob("*") if p.is_file()) == [
        "README.md",
        "checksums.json",
        "config.json",
        "encoder/config.json",
        "encoder/preprocessor_config.json",
        "merges.txt",
        "model.safetensors",
        "vocab.json",
    ]


def test_a_checkpoint_holds_what_resuming_takes_as_plain_types(finished):
    checkpoint = torch.load(finished / "checkpoints/a" / LAST, weights_only=True)
    assert set(REQUIRED) <= set(checkpoint)
    assert (checkpoint["epoch"], checkpoint["global_step"]) == (8, 40)
    assert checkpoint["config"]["BATCH_SIZE"] == TINY["BATCH_SIZE"]


def test_the_log_has_one_line_an_epoch_and_the_plot_is_a_picture(finished):
    lines = [json.loads(line) for line in (finished / "checkpoints/a/log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    assert [line["global_step"] for line in lines] == list(range(5, 41, 5))
    assert all(math.isfinite(line["val_loss"]) and math.isfinite(line["cider"]) for line in lines)
    assert all(math.isfinite(line["train_loss"]) for line in lines[:6])
    assert all(line["train_loss"] is None and line["train_reward"] >= 0 for line in lines[6:])  # self-critical
    with Image.open(finished / "checkpoints/a/loss.png") as image:
        image.verify()


def test_the_card_holds_the_numbers_of_the_run(finished):
    lines = [json.loads(line) for line in (finished / "checkpoints/a/log.jsonl").read_text().splitlines()]
    best = max(lines, key=lambda line: line["cider"])
    evaluation = json.loads((finished / "checkpoints/a/evaluation.json").read_text())
    card = (finished / "checkpoints/a/best/README.md").read_text()
    assert f"| validation loss | {best['val_loss']:.4f} |" in card
    assert f"| CIDEr-D, 95% interval | {evaluation['scores']['CIDEr-D']['score']:.4f}, " in card


def test_each_validation_prints_its_captions_and_the_end_says_what_to_type(finished, tmp_path):
    result = train(copy_data(finished, tmp_path), NUM_EPOCHS=1, BEST_METRIC="cider", REPORT_UTILISATION=True)
    assert "memory       " in result.stdout or sys.platform != "linux"
    assert "reference: " in result.stdout and "next         python inference.py" in result.stdout
    decided = re.findall(r"CIDEr-D (\d\.\d{3})(?= best| greedily)", result.stdout)  # of the epoch, and of the end
    assert len(decided) == 2 and decided[0] == decided[1]
    assert re.search(r"val_loss \d\.\d{4}  CIDEr-D", result.stdout)
    assert "1 of 1 pictures are captioned after each epoch, greedily, too few for the collapse alarm" in result.stdout
    assert "validation pictures, which chose its epoch too; greedy decoding\n" in result.stdout
    assert re.search(r"utilisation  \d+% of the machine's matrix products in float32: ", result.stdout)
    script, *command = result.stdout.split("next         python ")[1].split()
    assert script == "inference.py" and call(inference.main, *command, cwd=tmp_path).returncode == 0


def test_accumulated_gradients_are_those_of_one_large_batch(finished, tmp_path):
    copy_data(finished, tmp_path)
    same = dict(NUM_EPOCHS=1, DECODER_DROPOUT=0, GROUP_CAPTIONS="false")
    for name, batch, windows in (("whole", 64, 1), ("parts", 16, 4)):  # 180 pairs: the last window is smaller
        assert (
            train(tmp_path, RUN_NAME=name, BATCH_SIZE=batch, GRADIENT_ACCUMULATION_STEPS=windows, **same).returncode
            == 0
        )
    whole, parts = (
        load_weights(next((tmp_path / f"checkpoints/{n}").glob("*step_00000003.pt"))) for n in ("whole", "parts")
    )
    assert all(torch.allclose(whole[name], parts[name], atol=1e-5) for name in whole)


def test_a_non_finite_loss_stops_with_step_rate_and_last_good_checkpoint(finished, tmp_path):
    copy_data(finished, tmp_path)
    result = train(
        tmp_path,
        RUN_NAME="a",
        LEARNING_RATE=1e9,
        WARMUP_STEPS=0,
        GRADIENT_CLIP_NORM="none",
        CHECKPOINT_EVERY_STEPS=1,
        NUM_EPOCHS=20,
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    for part in ("no longer finite at step", "learning rate 9.90e+08", "checkpoint_step_00000001.pt"):
        assert part in result.stderr
    for path in (tmp_path / "checkpoints/a").glob("*.pt"):
        assert all(tensor.isfinite().all() for tensor in load_weights(path).values())


def test_training_stops_early_without_a_better_val_loss(finished, tmp_path):
    copy_data(finished, tmp_path)
    result = train(tmp_path, NUM_EPOCHS=30, EARLY_STOPPING_PATIENCE=2, LEARNING_RATE=0.5, WARMUP_STEPS=0)
    assert result.returncode == 0 and "no better val_loss for 2 validations" in result.stdout
    assert "epoch  30/30" not in result.stdout


def test_validation_comes_every_interval_and_at_the_end(finished, tmp_path):
    copy_data(finished, tmp_path)
    train(tmp_path, RUN_NAME="a", NUM_EPOCHS=3, VALIDATION_INTERVAL=2)
    lines = [json.loads(line) for line in (tmp_path / "checkpoints/a/log.jsonl").read_text().splitlines()]
    assert [line["val_loss"] is not None for line in lines] == [False, True, True]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_vanished_is_one_line_that_names_it(finished, tmp_path, workers):
    copy_data(finished, tmp_path)
    (tmp_path / "data/shapes/images/000007.png").unlink()
    result = train(tmp_path, NUM_WORKERS=workers)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error: cannot read data/shapes/images/000007.png")


def test_the_documented_entry_points_exist():
    for name in (
        "train.py",
        "inference.py",
        "model.py",
        "dataset.py",
        "tokenizer.py",
        "config.py",
        "prepare_dataset.py",
        "checkpoints",
        "tests",
        "requirements.txt",
    ):
        assert (ROOT / name).exists()


@pytest.mark.parametrize("limit", [1e-3, "none"])
def test_gradients_are_clipped(finished, tmp_path, limit):
    norms = []

    def note(optimizer, *_):
        gradients = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]
        norms.append(torch.cat(gradients).norm().item())

    hook = register_optimizer_step_pre_hook(note)
    try:
        assert train(copy_data(finished, tmp_path), NUM_EPOCHS=1, GRADIENT_CLIP_NORM=limit).returncode == 0
    finally:
        hook.remove()
    assert norms == pytest.approx([1e-3] * 5, rel=1e-3) if limit != "none" else min(norms) > 1e-2
