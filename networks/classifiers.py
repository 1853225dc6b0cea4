"""Where image classifiers come from: a network from scratch, or any that transformers loads, a bare encoder too.

model, image_processor = build_classifier(settings, ["cat", "dog"])     # ENCODER_MODEL_NAME: as networks/encoders.py
model, image_processor, classes = load_network("timm/resnet18.a1_in1k") # a classifier as it comes, with its own labels
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, PreTrainedModel

from basics.errors import UserError, first_line
from basics.hub_files import check_reachable
from basics.setting_rules import FROM_NOTHING
from basics.settings import Settings
from basics.stored import json_of
from networks.classifier import ImageClassifier, classes_in, find_head, labels_of
from networks.encoder import LARGEST_NUMBER, ImageProcessor, check_numbers, example_pixels, quiet_transformers
from networks.encoders import SCRATCH_CONFIGS, set_positions, squares_of, squashing_processor
from networks.rebuild import no_more_than, without_random_numbers

Report = dict[str, Any]  # of transformers, on what it found in a file of weights


def build_classifier(settings: Settings, classes: list[str]) -> tuple[ImageClassifier, ImageProcessor]:
    """The network of ENCODER_MODEL_NAME with a head for these classes. Raises UserError."""
    make = scratch_classifier if settings.ENCODER_MODEL_NAME in FROM_NOTHING else pretrained_classifier
    model, image_processor = make(settings, classes)
    model.set_trainable(settings.ENCODER_TRAINABLE)
    return model, image_processor


def scratch_classifier(settings: Settings, classes: list[str]) -> tuple[ImageClassifier, ImageProcessor]:
    """With random weights, its head's among them."""
    network = scratch_network(settings, classes)
    image_processor = squares_of(network.config.image_size)
    return ImageClassifier(network, find_head(network, example_pixels(image_processor))), image_processor


def scratch_network(settings: Settings, classes: list[str]) -> PreTrainedModel:
    """As transformers has it, not cut yet."""
    config = SCRATCH_CONFIGS[settings.ENCODER_MODEL_NAME](settings)
    for name, value in labels_of(classes).items():
        setattr(config, name, value)
    network = AutoModelForImageClassification.from_config(config)
    set_positions(network)
    return network


def pretrained_classifier(settings: Settings, classes: list[str]) -> tuple[ImageClassifier, ImageProcessor]:
    """With its weights; its head too where that is one of these very classes. Raises UserError."""
    name = settings.ENCODER_MODEL_NAME
    what = f"the encoder {name!r}"
    network, image_processor, report = load(name, what, ignore_mismatched_sizes=True, **labels_of(classes))
    if settings.ENCODER_IMAGE_SIZE is not None:
        image_processor = squashing_processor(network.config, image_processor, settings.ENCODER_IMAGE_SIZE)
    head = find_head(network, example_pixels(image_processor))
    new_head = check_weights(report, head, what)
    model = ImageClassifier(network, head)
    if new_head or own_classes(name) != classes:
        nn.init.normal_(model.head.weight, std=0.02)
        nn.init.zeros_(model.head.bias)
    return model, image_processor


def load_network(name: str, what: str) -> tuple[ImageClassifier, ImageProcessor, list[str]]:
    """A classifier as it comes, with its own labels. Raises UserError."""
    network, image_processor, report = load(name, what)
    head = find_head(network, example_pixels(image_processor))
    if check_weights(report, head, what):
        raise UserError(f"{what} has no weights for {head}: it is an encoder, expected a classifier")
    try:
        classes = classes_in(network.config)
    except ValueError as error:
        raise UserError(f"{what} cannot be used: {error}") from error
    return ImageClassifier(network, head), image_processor, classes


def check_weights(report: Report, head: str, what: str) -> bool:
    """Whether the head is new. Raises UserError where anything else of the network is."""
    random = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    of_head = {f"{head}.{part}" for part in ("weight", "bias")}
    if others := sorted(random - of_head):
        raise UserError(
            f"the weights of {what} lack {len(others)} tensors, or have them in another shape, {others[0]} first: "
            "the file does not belong to its config.json"
        )
    return bool(random)


def load(name: str, what: str, **how: Any) -> tuple[PreTrainedModel, Any, Report]:
    """What transformers loads of a Hub id or folder, and its report. Raises UserError."""
    try:
        check_reachable(name)
        if Path(name).is_dir():
            check_numbers_in(Path(name))
        with quiet_transformers():
            image_processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
            # the dtype is said because many Hub checkpoints are stored in fp16 and would load so
            network, report = AutoModelForImageClassification.from_pretrained(
                name, dtype=torch.float32, output_loading_info=True, trust_remote_code=False, **how
            )
    except Exception as error:  # a wrong folder or file fails in as many ways as there are models
        raise UserError(
            f"cannot load {what}: {first_line(error)}; expected a Hub id that can be reached, or a local folder with "
            "config.json and weights; without a network: docs/troubleshooting.md"
        ) from error
    return network, image_processor, report


def check_numbers_in(folder: Path) -> None:
    """Raises ValueError for a network that the folder's weights cannot fill: it would take memory before it is told."""
    check_numbers(json_of(folder / "config.json"), LARGEST_NUMBER, "config.json")
    weights = folder / "model.safetensors"
    if not weights.is_file():  # in parts, or of older kinds
        return
    with safe_open(weights, "pt") as file:
        stored = len([*file.keys()])
    with quiet_transformers(), torch.device("meta"), without_random_numbers(), no_more_than(stored):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        AutoModelForImageClassification.from_config(config, trust_remote_code=False)


def own_classes(name: str) -> list[str]:
    """The labels that a folder or Hub id comes with, [] where it has none."""
    try:
        with quiet_transformers():
            return classes_in(AutoConfig.from_pretrained(name, trust_remote_code=False))
    except ValueError:
        return []
