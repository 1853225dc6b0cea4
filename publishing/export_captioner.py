"""A captioner as folders that need no Python of ours, each held against PyTorch. For export.py.

levels, exports = export_captioner(captioner, settings, images, "onnx", ["float32", "int8"], work)
exportable = ExportableCaptioner(captioner)     # the same as export.py asks for it
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from basics.errors import UserError
from basics.settings import Settings
from captioner.exported import ExportedCaptioner, open_onnx
from captioner.exported_parts import PartFunction
from captioner.folder import Captioner, load_captioner, without_adapters
from model import ImageToTextModel
from networks.decoding_options import DecodingOptions
from networks.encoder import prepare_pixels
from networks.language_model import LanguageModelDecoder
from networks.language_tokenizer import LanguageTokenizer
from publishing.export_checks import CHECKED, compare_captions, in_batches, part_differences
from publishing.export_description import export_config, write_description
from publishing.export_folder import Export, copy_code, say_phase
from publishing.export_parts import make_modules, open_programs, to_onnx, trace, tracing, write_models, write_programs
from publishing.export_preprocessing import check_preprocessing, describe_preprocessing
from sources.pictures import Pictures
from sources.shards.picture import Picture
from tokenizer import CaptionTokenizer

TOLERANCE = 1e-4  # largest difference to PyTorch of any number a part gives, as part_differences() has it


@dataclass
class ExportableCaptioner:
    """An Exportable."""

    captioner: Captioner

    answers, answer, script = "captions", "text", "caption_onnx.py"

    @property
    def settings(self) -> Settings:
        return self.captioner.settings

    @property
    def float_arithmetic(self) -> str | None:
        language_model = isinstance(self.captioner.model.decoder, LanguageModelDecoder)
        return "a language model's arithmetic stays float32" if language_model else None

    def export(
        self, images: list[Image.Image], form: str, weights: list[str], work: Path, calibration: list[Picture]
    ) -> tuple[float, list[Export]]:
        return export_captioner(self.captioner, self.settings, images, form, weights, work, calibration)

    def compare(self, exports: list[Export], pictures: Pictures) -> Iterator[str]:
        return compare_captions(self.captioner, exports, pictures, self.settings)


def load_exportable_captioner(checkpoint: str) -> ExportableCaptioner:
    """Raises UserError for what cannot be exported."""
    captioner = load_captioner(checkpoint)
    check_exportable(captioner)
    return ExportableCaptioner(captioner)


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
            copy_code(folder, "caption_onnx.py")
    shown = in_batches(captioner.image_processor, calibration)
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
    with tracing("captioner"):
        parts = trace(make_modules(model), pixels, model.max_seq_len)
        models = to_onnx(parts) if form == "onnx" else {}
    eight_bit: list[str] = []
    if form == "torch":
        write_programs(parts, folders["float32"])
    else:
        if "int8" in folders:
            from publishing.int8_arithmetic import in_int8  # it needs onnx, which is not installed for everyone

            use = partial(caption_greedily, folders["float32"])
            smaller, eight_bit = in_int8(models, [batch.numpy() for batch in shown], use)
            write_models(smaller, folders["int8"])
        write_models(models, folders["float32"])
    return eight_bit


def caption_greedily(folder: Path, parts: dict[str, PartFunction], pixels: np.ndarray) -> None:
    """With the parts that the folder describes."""
    captioner = ExportedCaptioner(folder, *(parts[name] for name in ("encoder", "prefill", "step")))
    captioner.search(pixels, DecodingOptions(captioner.max_seq_len, beam_size=1))


def check_export(model: ImageToTextModel, pixels: Tensor, form: str, weights: str, folder: Path) -> Export:
    """The folder opened, and how far its parts are from PyTorch: for float32 no further than TOLERANCE."""
    say_phase("checking", f"{weights}, against PyTorch at every cache length")
    exported = open_onnx(folder) if form == "onnx" else open_programs(folder)
    differences = part_differences(make_modules(model), exported, pixels)
    if weights == "float32" and not all(difference <= TOLERANCE for difference in differences.values()):
        raise UserError(f"the export differs from PyTorch, at most {TOLERANCE:.0e} is allowed: {differences}")
    return Export(weights, folder, exported, differences)
