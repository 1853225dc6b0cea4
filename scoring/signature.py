"""What a signature says of data and weights: numbers whose signatures agree but for the checkpoint compare models."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from basics.files import file_hash
from captioner.places import members
from sources.pictures import Pictures

if TYPE_CHECKING:  # torch takes seconds to import
    import torch


def short_hash(content: Any) -> str:
    """A few digits that change where anything of what JSON can say does."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]


def data_hash(pictures: Pictures) -> str:
    """Of the names of the pictures, in their order, and their texts."""
    return short_hash([[path.name, row] for path, row in zip(pictures.paths, pictures.references)])


def dtype_name(precision: "torch.dtype") -> str:
    return str(precision).removeprefix("torch.")


def checkpoint_hash(name: str) -> str:
    """The first digits of the SHA-256 of the weights' file, of each one in an ensemble; a Hub id stands for itself."""
    return ",".join(hash_of_weights(Path(member).expanduser()) for member in members(name))


def hash_of_weights(path: Path) -> str:
    file = path / "model.safetensors" if path.is_dir() else path
    return file_hash(file)[:12] if file.is_file() else str(path)
