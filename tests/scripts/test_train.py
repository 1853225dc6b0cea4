"""Whole runs through train.py as a user calls it: what it leaves, how it stops, how exactly it resumes."""

import json
import math
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image
from taught import make_all
from tiny import ROOT, TINY, environment, flags, load_weights, run, same_weights, save_tiny_vit, start, stop_when, train

from basics.checkpoint_file import REQUIRED
from train import validate_captions
from training.stopping import Stopped, StopSignal

LAST = "checkpoint_step_00000040.pt"
RUN = dict(
    RUN_NAME="a",
    NUM_EPOCHS=6,
    SCST_EPOCHS=2,
    CHECKPOINT_EVERY_STEPS=1,
    AUGMENT="true",
    GROUP_CAPTIONS="true",
    BEST_METRIC="cider",
    EMA_DECAY=0.9,
)  # 8 epochs of 5 steps, with all that must come back: dropout, augmentation, averaged weights, sampled captions


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with one run that nothing disturbed, with dropout and augmentation."""
    folder = tmp_path_factory.mktemp("finished")
    assert train(folder, **RUN).returncode == 0
    return folder


def copy_data(source, target):
    shutil.copytree(source / "data", target / "data")
    return target


def weights(folder, name=LAST):
    return load_weights(folder / "checkpoints/a" / name)


def test_a_run_leaves_exactly_these_files(finished):
    folder = finished / "checkpoints/a"
    names = sorted(p.name for p in folder.iterdir())
    steps, bests = ([n for n in names if n.startswith(f"checkpoint_{kind}_")] for kind in ("step", "epoch"))
    assert steps == ["checkpoint_step_00000039.pt", LAST]  # KEEP_LAST_N is 2
    assert 1 <= len(bests) <= 2
    assert sorted(set(names) - {*steps, *bests}) == ["best", "evaluation.json", "log.jsonl", "loss.png"]
    assert sorted(str(p.relative_to(folder / "best")) for p in (folder / "best").rglob("*") if p.is_file()) == [
        "README.md",
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
    result = train(copy_data(finished, tmp_path), NUM_EPOCHS=1)
    assert "reference: " in result.stdout and "next         python inference.py" in result.stdout
    assert re.search(r"utilisation  \d+% of the machine's matrix products in float32: ", result.stdout)
    command = result.stdout.split("next         python ")[1].split()
    assert run(command[0], *command[1:], cwd=tmp_path).returncode == 0


def new_step(folder, delay):
    """Holds once a checkpoint is there that was not before, and `delay` seconds later."""
    before, seen = set(folder.glob("checkpoint_step_*.pt")), []

    def reached() -> bool:
        if not seen and set(folder.glob("checkpoint_step_*.pt")) - before:
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() > seen[0] + delay

    return reached


def test_killed_ten_times_at_random_moments_the_weights_are_those_of_the_undisturbed_run(finished, tmp_path):
    copy_data(finished, tmp_path)
    folder, rng = tmp_path / "checkpoints/a", random.Random(time.time_ns())  # other moments each time
    for _ in range(10):
        resume = ["--resume-checkpoint-path", "latest"] if folder.exists() else []
        process = start("train.py", *flags(**{**TINY, **RUN}), *resume, cwd=tmp_path)
        stop_when(process, new_step(folder, delay=0.015 * rng.random()), signal.SIGKILL)
        process.communicate()
    assert not (folder / LAST).exists()  # all ten fell within the 40 steps
    final = train(tmp_path, "--resume-checkpoint-path", "latest", **RUN)
    assert final.returncode == 0
    assert same_weights(weights(tmp_path), weights(finished))
    old, new = ((f / "checkpoints/a/log.jsonl").read_text().splitlines() for f in (finished, tmp_path))
    timeless = [
        [{k: v for k, v in json.loads(line).items() if "second" not in k} for line in log] for log in (old, new)
    ]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_saves_the_step_exits_cleanly_and_resumes_to_the_bit(finished, tmp_path, number):
    copy_data(finished, tmp_path)
    folder = tmp_path / "checkpoints/a"
    process = start("train.py", *flags(**{**TINY, **RUN, "CHECKPOINT_EVERY_STEPS": "none"}), cwd=tmp_path)
    stop_when(process, lambda: (folder / "log.jsonl").exists(), number)  # in the second epoch or later
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in err, err
    if "stopped by" in out:
        assert f"stopped by {number.name}" in out and "--resume-checkpoint-path" in out
        assert train(tmp_path, "--resume-checkpoint-path", "latest", **RUN).returncode == 0
    assert same_weights(weights(tmp_path), weights(finished))


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
        LEARNING_RATE=1e30,
        WARMUP_STEPS=0,
        GRADIENT_CLIP_NORM="none",
        CHECKPOINT_EVERY_STEPS=1,
        NUM_EPOCHS=20,
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    for part in ("no longer finite at step", "learning rate 9.90e+29", "checkpoint_step_00000001.pt"):
        assert part in result.stderr
    for path in (tmp_path / "checkpoints/a").glob("*.pt"):
        assert all(tensor.isfinite().all() for tensor in load_weights(path).values())


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
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    result = train(tmp_path, "--resume-checkpoint-path", f"checkpoints/a/{LAST}", **{**RUN, "RUN_NAME": "b"})
    assert result.returncode == 1 and "already holds a run" in result.stderr
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


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
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    result = train(tmp_path, "--resume-checkpoint-path", f"checkpoints/a/{LAST}", **{**RUN, "RUN_NAME": "none"})
    assert result.returncode == 1 and LAST in result.stderr and "Traceback" not in result.stderr
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


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


def test_another_batch_size_in_the_middle_of_an_epoch_is_refused(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    result = train(
        tmp_path,
        "--resume-checkpoint-path",
        "checkpoints/a/checkpoint_step_00000039.pt",
        **{**RUN, "RUN_NAME": "b", "BATCH_SIZE": 10},
    )
    assert result.returncode == 1 and "BATCH_SIZE must stay 40" in result.stderr


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
    other = {**RUN, **changes}
    for name in ("a", "b"):
        assert train(tmp_path, **{**other, "RUN_NAME": name}).returncode == 0
    folder = tmp_path / "checkpoints/b"
    (folder / LAST).unlink()
    assert train(tmp_path, "--resume-checkpoint-path", "latest", **{**other, "RUN_NAME": "b"}).returncode == 0
    assert same_weights(weights(tmp_path), load_weights(folder / LAST))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_vanished_is_one_line_that_names_it(finished, tmp_path, workers):
    copy_data(finished, tmp_path)
    (tmp_path / "data/shapes/images/000007.png").unlink()
    result = train(tmp_path, NUM_WORKERS=workers)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error: cannot read data/shapes/images/000007.png")


def test_a_branch_keeps_the_best_so_far_and_leaves_the_old_run_alone(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    old = {p: p.read_bytes() for p in (tmp_path / "checkpoints/a").rglob("*") if p.is_file()}
    shutil.copytree(tmp_path / "checkpoints/a/best", tmp_path / "checkpoints/b/best")  # as a first try may have left it
    result = train(
        tmp_path, "--resume-checkpoint-path", "checkpoints/a/checkpoint_step_00000039.pt", **{**RUN, "RUN_NAME": "b"}
    )
    assert result.returncode == 0 and (tmp_path / "checkpoints/b/best/model.safetensors").exists()
    assert old == {p: p.read_bytes() for p in (tmp_path / "checkpoints/a").rglob("*") if p.is_file()}


def test_a_branch_leaves_a_best_of_later_epochs_behind(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "checkpoints/a/best/config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps({**content, "epoch": content["epoch"] + 1}))
    result = train(
        tmp_path, "--resume-checkpoint-path", "checkpoints/a/checkpoint_step_00000039.pt", **{**RUN, "RUN_NAME": "b"}
    )
    assert result.returncode == 0 and "is no longer that of epoch" in result.stdout
    assert json.loads((tmp_path / "checkpoints/b/best/config.json").read_text())["epoch"] == 8  # the only one it had
    assert "best         epoch 8" in result.stdout


def test_the_command_that_goes_on_can_be_pasted(finished, tmp_path):
    shutil.copytree(finished / "data", tmp_path / "my data")
    settings = {**TINY, **RUN, "DATA_DIR": "my data", "NUM_EPOCHS": 50}
    process = start("train.py", *flags(**settings), cwd=tmp_path)
    stop_when(process, lambda: list(tmp_path.glob("checkpoints/a/checkpoint_step_*3.pt")))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    command = shlex.split(out.splitlines()[-1])
    assert command[:2] == ["python", "train.py"] and command[command.index("--data-dir") + 1] == "my data"


def test_a_stop_is_heard_while_validation_captions(git, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state, _, val_set, _ = make_all(git, NUM_VALIDATION_CAPTIONS=4)
    with StopSignal() as stop:
        stop.requested = "SIGTERM"
        with pytest.raises(Stopped):
            validate_captions(state, val_set, stop)


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


def test_gradients_are_clipped(finished, tmp_path):
    copy_data(finished, tmp_path)
    assert train(tmp_path, **{**RUN, "GRADIENT_CLIP_NORM": 1e-9}).returncode == 0
    assert not same_weights(weights(tmp_path), weights(finished))


def test_on_a_terminal_a_bar_shows_loss_rate_and_speed(finished, tmp_path):
    copy_data(finished, tmp_path)
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")  # not on Windows
    screen, other_end = pty.openpty()
    termios.tcsetwinsize(other_end, (24, 120))
    command = [sys.executable, str(ROOT / "train.py"), *flags(**{**TINY, "NUM_EPOCHS": 30, "BATCH_SIZE": 2})]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=other_end)
    os.close(other_end)
    shown, bar = "", re.compile(r"epoch \d+/30: .*examples/s, loss=\d.*lr=\d")
    try:
        while not bar.search(shown):
            shown += os.read(screen, 4096).decode()  # an OSError once the process has ended
    finally:
        process.kill()
        process.wait()
