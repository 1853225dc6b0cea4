"""The main job on real photographs and real weights: a small part of Flickr8k through the scripts, as it ships."""

import json
import os

import pytest
from in_process import call
from tiny import SHARED, TINY, flags

import inference
import train

RAW, ENCODER = SHARED / "data/flickr8k", SHARED / "models/efficientnet-lite0"


@pytest.fixture
def few(tmp_path):
    """Flickr8k's own form with its first 24 training and 8 dev pictures."""
    for path in (RAW, ENCODER):
        if not path.is_dir():
            pytest.skip(f"no real data at {path}")
    folder, kept = tmp_path / "flickr8k", set()
    folder.mkdir()
    for part, count in (("train", 24), ("dev", 8)):
        names = (RAW / f"Flickr_8k.{part}Images.txt").read_text().split()[:count]
        (folder / f"Flickr_8k.{part}Images.txt").write_text("\n".join(names) + "\n")
        kept |= set(names)
    lines = (RAW / "Flickr8k.token.txt").read_text().splitlines()
    (folder / "Flickr8k.token.txt").write_text("\n".join(x for x in lines if x.split("#")[0] in kept) + "\n")
    (folder / "Images").mkdir()
    for name in kept:
        os.symlink(RAW / "Images" / name, folder / "Images" / name)
    return folder


def test_real_photographs_train_and_are_captioned(few, tmp_path):
    settings = {name: value for name, value in TINY.items() if not name.startswith(("SCRATCH_", "SHAPES_"))}
    result = call(
        train.main,
        "--preset",
        "flickr8k",
        "--raw-dir",
        few,
        "--encoder-model-name",
        ENCODER,
        *flags(**{**settings, "RUN_NAME": "f", "PRECISION": "fp32"}),
        cwd=tmp_path,
    )
    assert result.returncode == 0 and "81 image tokens" in result.stdout and "3,371,008 frozen" in result.stdout
    dev = json.loads((tmp_path / "data/flickr8k/splits.json").read_text())["val"]
    assert len(dev) == 8
    captions = call(inference.main, *(few / "Images" / name for name in dev), "--format", "json", cwd=tmp_path)
    assert captions.returncode == 0 and [len(row["captions"]) for row in json.loads(captions.stdout)] == [1] * 8
