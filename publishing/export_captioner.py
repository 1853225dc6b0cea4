"""A captioner as folders that need no Python of ours, each held against PyTorch. For export.py.

levels, exports = export_captioner(captioner, settings, images, "onnx", ["float32", "int8"], work)
"""

import warnings
from pathlib import Path

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
from publishing.export_parts import make_modules, open_programs, to_onnx, trace, write_onnx, write_programs
from publishing.export_preprocessing import check_preprocessing, describe_preprocessing
from tokenizer import CaptionTokenizer

TOLERANCE = 1e-4  # largest difference to PyTorch of any number a part gives, as part_differences() has it
CHECKED = 5  # pictures at once


def check_exportable(captioner: Captioner) -> None:
    """Raises UserError for what has no parts, or no vocabulary, that would run without this project."""
    make_modules(captioner.model)
    if not isinstance(captioner.tokenizer, CaptionTokenizer | LanguageTokenizer):
        raise UserError(
            f"the vocabulary ({type(captioner.tokenizer).__name__}) cannot be exported; expected one of TOKENIZER or "
            "that of a language model"
        )


def export_captioner(
    captioner: Captioner, settings: Settings, images: list[Image.Image], form: str, weights: list[str], work: Path
) -> tuple[float, list[Export]]:
    """The folders in work, one for each kind of weights, and the largest difference of a pixel, in 255ths.

    form is "onnx" or "torch", weights are "float32" and then maybe "int8", for ONNX alone; images are examples. Raises
    UserError where something differs from PyTorch.
    """
    check_exportable(captioner)
    if captioner.model.architecture.get("decoder_lora_rank"):
        captioner = without_adapters(captioner)
    steps = describe_preprocessing(captioner.image_processor)
    levels = check_preprocessing(captioner.image_processor, steps, images[:CHECKED])
    pixels = prepare_pixels(captioner.image_processor, (images * CHECKED)[:CHECKED])
    folders = {name: work / name for name in weights}
    for folder in folders.values():
        folder.mkdir()
    write_parts(captioner.model, pixels[:2], form, folders)
    layers = count_layers(captioner.model, pixels[:1])
    for name, folder in folders.items():
        config = export_config(captioner, settings, steps, layers, form, name)
        write_description(folder, captioner.tokenizer, config, pixels)
        if form == "onnx":
            copy_code(folder)
    return levels, [check_export(captioner.model, pixels, form, name, folder) for name, folder in folders.items()]


@torch.no_grad()
def count_layers(model: ImageToTextModel, pixels: Tensor) -> int:
    """Those that keep keys and values of a picture."""
    return len(make_modules(model)["encoder"](pixels)) // 2


def write_parts(model: ImageToTextModel, pixels: Tensor, form: str, folders: dict[str, Path]) -> None:
    """The parts as files, in a folder for each kind of weights. Raises UserError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parts = trace(make_modules(model), pixels, model.max_seq_len)
            models = to_onnx(parts) if form == "onnx" else {}
    except Exception as error:  # every encoder and every language model fails in its own way
        raise UserError(
            f"torch.export cannot follow this captioner: {first_line(error)} (--debug shows where)"
        ) from error
    if form == "torch":
        write_programs(parts, folders["float32"])
    else:
        write_onnx(models, folders)


def check_export(model: ImageToTextModel, pixels: Tensor, form: str, weights: str, folder: Path) -> Export:
    """The folder opened, and how far its parts are from PyTorch: for float32 no further than TOLERANCE."""
    say_phase("checking", f"{weights}, against PyTorch at every cache length")
    exported = open_onnx(folder) if form == "onnx" else open_programs(folder)
    differences = part_differences(make_modules(model), exported, pixels)
    if weights == "float32" and not all(difference <= TOLERANCE for difference in differences.values()):
        raise UserError(f"the export differs from PyTorch, at most {TOLERANCE:.0e} is allowed: {differences}")
    return Export(weights, folder, exported, differences)
