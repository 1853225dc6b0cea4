"""The run that tests of train.py look at, go on from, branch off and compare with (conftest.py of tests/scripts)."""

import shutil
from pathlib import Path

from tiny import load_weights
from torch import Tensor

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


def copy_data(source: Path, target: Path, name: str = "data") -> Path:
    shutil.copytree(source / "data", target / name)
    return target


def weights(folder: Path, run: str = "a") -> dict[str, Tensor]:
    return load_weights(folder / "checkpoints" / run / LAST)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
