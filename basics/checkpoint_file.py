"""Checkpoint files as they lie on the disk: their names, and reading one without running what it may hold.

checkpoint = read_checkpoint(path)      # a dict of tensors and plain types; weights_only=True
numbered(folder, STEP_FILE)[-1]         # the newest checkpoint of a run
"""

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from basics.errors import UserError, first_line
from basics.settings import up_to_date
from basics.stored import COUNT, Each, Number, check

STEP_FILE = re.compile(r"checkpoint_step_(\d+)\.pt")
BEST_FILE = re.compile(r"checkpoint_epoch_(\d+)_val_[\d.]+\.pt")
EXPECTED = "expected a checkpoint_*.pt written by train.py"
ZIP, PICKLE = b"PK\x03\x04", b"\x80"  # what torch.save() files begin with, today's and those of long ago
TENSORS = Each(torch.Tensor)
AMOUNT = (None, float)
PROGRESS = {
    "epoch": COUNT,
    "global_step": COUNT,
    "batches_done": COUNT,
    "num_pairs": COUNT,
    "order?": str,
    "loss_sum": float,
    "num_tokens": COUNT,
    "seconds?": float,
    "best_val_loss": float,
    "best_cider?": float,
    "best_top1?": float,
    "best_epoch": COUNT,
    "validations_since_best": COUNT,
    "history": [{"epoch": COUNT, "train_loss": AMOUNT, "val_loss": AMOUNT, "examples_per_second?": AMOUNT}],
}
RNG = {
    "torch": torch.Tensor,
    "cuda": [torch.Tensor],
    "mps?": (None, torch.Tensor),
    "numpy": [(str, torch.Tensor, float)],
    "python": [(None, float, [Number(int, 0, 2**32)])],
}
PATTERN = {
    "epoch": COUNT,
    "global_step": COUNT,
    "model_state_dict": TENSORS,
    "optimizer_state_dict": {"state": dict, "param_groups": [dict]},
    "scheduler_state_dict": {"last_epoch": COUNT, "_step_count": COUNT, "_last_lr": [float]},
    "scaler": dict,
    "average": {"steps": COUNT, "values": TENSORS},
    "best_val_loss": float,
    "config": {"NUM_EPOCHS": Number(int, 1, 2**53)},
    "rng": RNG,
    "rng_of_others?": [RNG],
    "attention?": Each(str),
    "progress": PROGRESS,
    "tokenizer?": dict,
    "architecture?": dict,
    "encoder_files?": Each(str),
    "classifier?": {"files": Each(str), "head": str},
}
TOKENIZER = {"vocab": dict, "merges": (None, list), "lowercase": bool, "hash": str}
LANGUAGE_TOKENIZER = {"files": {"tokenizer.json": str, "tokenizer_config.json": str}, "hash": str}
REQUIRED = [name for name in PATTERN if not name.endswith("?")]


def numbered(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    """Files of a folder that match, by their number, the highest last."""
    found = [(int(match[1]), path) for path in folder.glob("*.pt") if (match := pattern.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The dict of a checkpoint file on the CPU. Raises UserError for what is missing, damaged or unsafe."""
    try:
        with open(path, "rb") as file:
            beginning = file.read(len(ZIP))
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}") from None
    if beginning == ZIP:
        check_archive(path)
    elif not beginning.startswith(PICKLE):
        raise UserError(f"{path} is no checkpoint, or damaged in its first bytes; {EXPECTED}")
    checkpoint = load_tensors(path)
    if isinstance(checkpoint, dict):
        checkpoint.setdefault("average", {"steps": 0, "values": {}})  # runs from before EMA_DECAY
    missing = [key for key in REQUIRED if key not in checkpoint] if isinstance(checkpoint, dict) else REQUIRED
    if missing:
        raise UserError(f"{path} is no checkpoint of train.py: it lacks {', '.join(missing[:3])}")
    try:
        check(checkpoint, PATTERN, "its content")
        tokenizer = checkpoint.get("tokenizer", {})
        kind = LANGUAGE_TOKENIZER if "files" in tokenizer else TOKENIZER
        check(checkpoint, {"tokenizer?": kind}, "its content")
        checkpoint["config"] = up_to_date(checkpoint["config"])
    except ValueError as error:
        raise UserError(damaged(path, error)) from error
    return checkpoint


def load_tensors(path: Path) -> Any:
    """What torch.save() wrote, on the CPU, if it is tensors and plain types alone. Raises UserError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of the pickle it is about to refuse
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is refused: it is damaged or holds Python objects that could run code; {EXPECTED}"
        ) from error
    except Exception as error:  # of a pickle that means nothing anything can come
        raise UserError(damaged(path, error)) from error


def check_archive(path: Path) -> None:
    """torch.save() writes a zip file with checksums, which torch.load() does not read. Raises UserError."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [part.filename for part in archive.infolist() if part.compress_type != zipfile.ZIP_STORED]
            broken = archive.testzip() if not packed else None
    except Exception as error:  # zipfile raises what it likes on damaged files
        raise UserError(damaged(path, error)) from error
    if packed:
        raise UserError(f"{path} is no checkpoint: {packed[0]} in it is compressed; {EXPECTED}")
    if broken:
        raise UserError(damaged(path, ValueError(f"the checksum of {broken} in it is wrong")))


def damaged(path: Path, error: Exception) -> str:
    return (
        f"{path} is damaged or cut short ({first_line(error)}); take an older checkpoint of its folder, "
        "or start anew without RESUME_CHECKPOINT_PATH"
    )
