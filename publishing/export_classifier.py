"""A classifier as folders that need no Python of ours, each held against PyTorch. For export.py.

levels, exports = export_classifier(classifier, images, "onnx", ["float32", "int8"], work, calibration)
exports[0].model.logits(pixels)                 # an ExportedClassifier
exportable = ExportableClassifier(classifier)   # the same as export.py asks for it
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.export import Dim

from basics.errors import UserError
from basics.settings import Settings
from captioner.exported_parts import Arrays, PartFunction
from classifier.exported import ONNX_MODEL, ExportedClassifier, open_onnx_classifier
from classifier.folder import Classifier, load_classifier
from networks.classifier import ImageClassifier
from networks.encoder import prepare_pixels
from publishing.export_checks import CHECKED, in_batches
from publishing.export_description import classifier_config, write_classifier_description
from publishing.export_folder import CLASSIFIER_PROGRAM, Export, copy_code, say_phase
from publishing.export_label_checks import compare_answers, logits_difference
from publishing.export_parts import as_model, trace_part, tracing, write_program
from publishing.export_preprocessing import check_preprocessing, describe_preprocessing
from sources.pictures import Pictures
from sources.shards.picture import Picture

TOLERANCE = 1e-4  # largest difference to PyTorch of a logit, as logits_difference() has it
NAME = Path(ONNX_MODEL).stem


@dataclass
class ExportableClassifier:
    """An Exportable."""

    classifier: Classifier

    answers, answer, script = "answers", "label", "classify_onnx.py"
    float_arithmetic = None

    @property
    def settings(self) -> Settings | None:
        """Those of ours: anybody else's classifier has not seen the pictures that config.py names."""
        return self.classifier.settings if self.classifier.config else None

    def export(
        self, images: list[Image.Image], form: str, weights: list[str], work: Path, calibration: list[Picture]
    ) -> tuple[float, list[Export]]:
        return export_classifier(self.classifier, images, form, weights, work, calibration)

    def compare(self, exports: list[Export], pictures: Pictures) -> Iterator[str]:
        return compare_answers(self.classifier, exports, pictures)


def load_exportable_classifier(checkpoint: str) -> ExportableClassifier:
    """Raises UserError."""
    return ExportableClassifier(load_classifier(checkpoint))


class ClassifierPart(nn.Module):
    """Pixels (B, 3, H, W) -> logits (B, C), in plain order of memory: the other one is traced as detours."""

    def __init__(self, model: ImageClassifier):
        super().__init__()
        self.encoder = copy.deepcopy(model.encoder.backbone)
        self.encoder.to(memory_format=torch.contiguous_format)  # type: ignore[call-arg]  # its to() loses self
        self.head = model.head

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.encoder(pixel_values=pixels).logits.flatten(1))


def export_classifier(
    classifier: Classifier,
    images: list[Image.Image],
    form: str,
    weights: list[str],
    work: Path,
    calibration: Sequence[Picture] = (),
) -> tuple[float, list[Export[ExportedClassifier]]]:
    """The folders in work, one for each kind of weights, and the largest difference of a pixel, in 255ths.

    form is "onnx" or "torch", weights are "float32" and then maybe "int8", for ONNX alone; images are examples.
    int8 is arithmetic too where there are pictures for calibration, else weights alone. Raises UserError where
    something differs from PyTorch.
    """
    steps = describe_preprocessing(classifier.image_processor)
    levels = check_preprocessing(classifier.image_processor, steps, images[:CHECKED])
    pixels = prepare_pixels(classifier.image_processor, (images * CHECKED)[:CHECKED])
    network, folders = ClassifierPart(classifier.model).eval(), {name: work / name for name in weights}
    for folder in folders.values():
        folder.mkdir()
    eight_bit = write_network(network, pixels[:2], form, folders, in_batches(classifier.image_processor, calibration))
    config, file = classifier_config(classifier, steps, form), ONNX_MODEL if form == "onnx" else CLASSIFIER_PROGRAM
    for name, folder in folders.items():
        arithmetic = {"int8_arithmetic": eight_bit} if eight_bit and name == "int8" else {}
        write_classifier_description(folder, {**config, "weights": name, **arithmetic}, file, pixels)
        if form == "onnx":
            copy_code(folder, ExportableClassifier.script)
    return levels, [check_classifier(classifier, pixels, form, name, folder) for name, folder in folders.items()]


def write_network(
    network: nn.Module, pixels: Tensor, form: str, folders: dict[str, Path], shown: Iterable[Tensor]
) -> list[str]:
    """A file in each folder -> [its name] where it was calibrated for 8 bits, else []. Raises UserError."""
    with tracing("classifier"):
        say_phase("tracing", NAME)
        with torch.no_grad():
            part = trace_part(network, (pixels,), ({0: Dim("pictures")},), ["pixels"], ["logits"])
        model = as_model(NAME, part) if form == "onnx" else None
    if model is None:
        write_program(part, folders["float32"] / CLASSIFIER_PROGRAM)
        return []
    models, eight_bit = {"float32": model}, list[str]()
    if "int8" in folders:
        from publishing.int8_arithmetic import in_int8  # it needs onnx, which is not installed for everyone

        smaller, eight_bit = in_int8({NAME: model}, [batch.numpy() for batch in shown], run_network)
        models["int8"] = smaller[NAME]
    for name, folder in folders.items():
        (folder / ONNX_MODEL).write_bytes(models[name].SerializeToString(deterministic=True))
    return eight_bit


def run_network(parts: dict[str, PartFunction], pixels: np.ndarray) -> Arrays:
    return parts[NAME](pixels)


def check_classifier(
    classifier: Classifier, pixels: Tensor, form: str, weights: str, folder: Path
) -> Export[ExportedClassifier]:
    """The folder opened, and how far its logits are from PyTorch: for float32 no further than TOLERANCE."""
    say_phase("checking", f"{weights}, against PyTorch, one picture and several")
    exported = open_onnx_classifier(folder) if form == "onnx" else open_classifier_program(folder)
    difference = logits_difference(classifier, exported, pixels)
    if weights == "float32" and not difference <= TOLERANCE:
        raise UserError(f"the export differs from PyTorch by {difference:.1e}, at most {TOLERANCE:.0e} is allowed")
    return Export(weights, folder, exported, {NAME: difference})


def open_classifier_program(folder: Path) -> ExportedClassifier:
    """The .pt2 file in the place of the .onnx file."""
    module = torch.export.load(folder / CLASSIFIER_PROGRAM).module(check_guards=False)

    @torch.no_grad()
    def network(pixels: np.ndarray) -> Arrays:
        return [module(torch.from_numpy(pixels)).numpy()]

    return ExportedClassifier(folder, network)
