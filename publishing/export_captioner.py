"""A captioner as folders that need no Python of ours, each held against PyTorch. For export.py.

levels, exports = export_captioner(captioner, settings, images, "onnx", ["float32", "int8"], work)
"""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from basics.errors import UserError, first_line
from basics.settings import Settings
from captioner.exported import open_onnx
from captioner.folder import Captioner, without_adapters
from model import ImageToTextModel
from networks.encoder import prepare_pixels
from networks.language_tokenizer import LanguageTokenizer
from publishing.export_checks import part_differences
from publishing.export_folder import Export, copy_code, export_config, say_phase, write_description
from publishing.export_parts import make_modules, open_programs, to_onnx, trace, write_models, write_programs
from publishing.export_preprocessing import check_preprocessing, describe_preprocessing
from sources.images import load_image
from sources.shards.picture import Picture
from tokenizer import CaptionTokenizer

if TYPE_CHECKING:  # onnx is for ONNX exports alone
    from onnx import ModelProto

TOLERANCE = 1e-4  # largest difference to PyTorch of any number a part gives, as part_differences() has it
CHECKED = 5  # pictures at once
BATCH = 4  # pictures calibrated on at once: all that is between layers is looked at


def check_exportable(captioner: Captioner) -> None:
    """Raises UserError for what has no parts, or no vocabulary, that would run without this project."""
    make_modules(captioner.model)
    if not isinstance(captioner.tokenizer, CaptionTokenizer | LanguageTokenizer):
        raise UserError(
            f"the vocabulary ({type(captioner.tokenizer).__name__}) cannot be exported; expected one of TOKENIZER or "
            "that of a language model"
        )


def export_captioner(
    captioner: Captioner,
    settings: Settings,
    images: list[Image.Image],
    form: str,
    weights: list[str],
    work: Path,
    calibration: Sequence[Picture] = (),
) -> tuple[float, list[Export]]:
    """The folders in work, one for each kind of weights, and the largest difference of a pixel, in 255ths.

    form is "onnx" or "torch", weights are "float32" and then maybe "int8", for ONNX alone; images are examples.
    int8 is arithmetic too where there are pictures for calibration, else weights alone. Raises UserError where
    something differs from PyTorch.
    """
    check_exportable(captioner)
    if captioner.model.architecture.get("decoder_lora_rank"):
        captioner = without_adapters(captioner)
    steps = describe_preprocessing(captioner.image_processor)
    levels = check_preprocessing(captioner.image_processor, steps, images[:CHECKED])
    pixels = prepare_pixels(captioner.image_processor, (images * CHECKED)[:CHECKED])
    layers = count_layers(captioner.model, pixels[:1])
    config = export_config(captioner, settings, steps, layers, form)
    folders = {name: work / name for name in weights}
    for name, folder in folders.items():
        folder.mkdir()
        write_description(folder, captioner.tokenizer, {**config, "weights": name}, pixels)
        if form == "onnx":
            copy_code(folder)
    batches = (calibration[i : i + BATCH] for i in range(0, len(calibration), BATCH))
    shown = (prepare_pixels(captioner.image_processor, [load_image(path) for path in batch]) for batch in batches)
    eight_bit = write_parts(captioner.model, pixels[:2], form, folders, shown)
    if eight_bit:
        config |= {"weights": "int8", "int8_arithmetic": eight_bit}
        write_description(folders["int8"], captioner.tokenizer, config, pixels)
    return levels, [check_export(captioner.model, pixels, form, name, folder) for name, folder in folders.items()]


@torch.no_grad()
def count_layers(model: ImageToTextModel, pixels: Tensor) -> int:
    """Those that keep keys and values of a picture."""
    return len(make_modules(model)["encoder"](pixels)) // 2


def write_parts(
    model: ImageToTextModel, pixels: Tensor, form: str, folders: dict[str, Path], shown: Iterable[Tensor]
) -> list[str]:
    """The parts as files, in a folder for each kind of weights -> those calibrated for 8 bits. Raises UserError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parts = trace(make_modules(model), pixels, model.max_seq_len)
            models = to_onnx(parts) if form == "onnx" else {}
    except Exception as error:  # every encoder and every language model fails in its own way
        raise UserError(
            f"torch.export cannot follow this captioner: {first_line(error)} (--debug shows where)"
        ) from error
    eight_bit: list[str] = []
    if form == "torch":
        write_programs(parts, folders["float32"])
    else:
        if "int8" in folders:
            smaller, eight_bit = in_int8(models, folders["float32"], [batch.numpy() for batch in shown])
            write_models(smaller, folders["int8"])
        write_models(models, folders["float32"])
    return eight_bit


def in_int8(
    models: dict[str, "ModelProto"], folder: Path, batches: list[np.ndarray]
) -> tuple[dict[str, "ModelProto"], list[str]]:
    """The models with 8-bit weights, and the names of those that multiply 8-bit numbers."""
    from publishing.int8_arithmetic import calibrated  # both need onnx, which is not installed for everyone
    from publishing.int8_weights import with_int8_weights

    if not batches:
        return {name: with_int8_weights(model) for name, model in models.items()}, []
    say_phase("calibrating", f"{sum(map(len, batches))} pictures")
    smaller, eight_bit, moved = calibrated(models, batches, folder)
    left = "" if "encoder" in eight_bit else ": too far, its weights alone are 8-bit"
    say_phase("8-bit encoder", f"its numbers move by {moved:.0%}{left}")
    return smaller, eight_bit


def check_export(model: ImageToTextModel, pixels: Tensor, form: str, weights: str, folder: Path) -> Export:
    """The folder opened, and how far its parts are from PyTorch: for float32 no further than TOLERANCE."""
    say_phase("checking", f"{weights}, against PyTorch at every cache length")
    exported = open_onnx(folder) if form == "onnx" else open_programs(folder)
    differences = part_differences(make_modules(model), exported, pixels)
    if weights == "float32" and not all(difference <= TOLERANCE for difference in differences.values()):
        raise UserError(f"the export differs from PyTorch, at most {TOLERANCE:.0e} is allowed: {differences}")
    return Export(weights, folder, exported, differences)
