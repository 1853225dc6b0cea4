"""Checkpoint files as they lie on the disk: their names, and reading one without running what it may hold.

checkpoint = read_checkpoint(path)      # a dict of tensors and plain types; weights_only=True
numbered(folder, STEP_FILE)[-1]         # the newest checkpoint of a run
"""

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from basics.errors import UserError, first_line
from basics.settings import up_to_date

STEP_FILE = re.compile(r"checkpoint_step_(\d+)\.pt")
BEST_FILE = re.compile(r"checkpoint_epoch_(\d+)_val_[\d.]+\.pt")
REQUIRED = (
    "epoch",
    "global_step",
    "model_state_dict",
    "optimizer_state_dict",
    "scheduler_state_dict",
    "scaler",
    "average",
    "best_val_loss",
    "config",
    "rng",
    "progress",
)


def numbered(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    """Files of a folder that match, by their number, the highest last."""
    found = [(int(match[1]), path) for path in folder.glob("*.pt") if (match := pattern.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The dict of a checkpoint file on the CPU. Raises UserError for what is missing, damaged or unsafe."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of the pickle it is about to refuse
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}") from None
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is refused: it is damaged or holds Python objects that could run code; "
            "expected a checkpoint_*.pt written by train.py"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise UserError(
            f"{path} is damaged or cut short ({first_line(error)}); take an older checkpoint of its folder, "
            "or start anew without RESUME_CHECKPOINT_PATH"
        ) from error
    if isinstance(checkpoint, dict):
        checkpoint.setdefault("average", {"steps": 0, "values": {}})  # runs from before EMA_DECAY
    missing = [key for key in REQUIRED if key not in checkpoint] if isinstance(checkpoint, dict) else list(REQUIRED)
    if missing:
        raise UserError(f"{path} is no checkpoint of train.py: it lacks {', '.join(missing[:3])}")
    checkpoint["config"] = up_to_date(checkpoint["config"])
    return checkpoint
