"""Where image classifiers come from: a network from scratch, or any that transformers loads, a bare encoder too.

model, image_processor = build_classifier(settings, ["cat", "dog"])     # ENCODER_MODEL_NAME: as networks/encoders.py
model, image_processor, classes = load_network("timm/resnet18.a1_in1k") # a classifier as it comes, with its own labels
"""

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, PreTrainedModel

from basics.errors import UserError, first_line
from basics.hub_files import check_reachable
from basics.settings import Settings
from networks.classifier import ImageClassifier, classes_in, find_head, labels_of
from networks.encoder import ImageProcessor, example_pixels, quiet_transformers
from networks.encoders import SCRATCH, set_positions, squares_of, squashing_processor


def build_classifier(settings: Settings, classes: list[str]) -> tuple[ImageClassifier, ImageProcessor]:
    """The network of ENCODER_MODEL_NAME with a head for these classes. Raises UserError."""
    make = scratch_network if settings.ENCODER_MODEL_NAME in SCRATCH else pretrained_network
    network, image_processor, fits = make(settings, classes)
    model = ImageClassifier(network, find_head(network, example_pixels(image_processor)))
    if not fits:
        nn.init.normal_(model.head.weight, std=0.02)
        nn.init.zeros_(model.head.bias)
    model.set_trainable(settings.ENCODER_TRAINABLE)
    return model, image_processor


def scratch_network(settings: Settings, classes: list[str]) -> tuple[PreTrainedModel, ImageProcessor, bool]:
    """With random weights, its head's among them."""
    config = SCRATCH[settings.ENCODER_MODEL_NAME](settings)
    for name, value in labels_of(classes).items():
        setattr(config, name, value)
    network = AutoModelForImageClassification.from_config(config)
    set_positions(network)
    return network, squares_of(config.image_size), True


def pretrained_network(settings: Settings, classes: list[str]) -> tuple[PreTrainedModel, ImageProcessor, bool]:
    """With its weights, and whether its head is one of these very classes. Raises UserError."""
    name = settings.ENCODER_MODEL_NAME
    network, image_processor, report = load(
        name, f"the encoder {name!r}", ignore_mismatched_sizes=True, **labels_of(classes)
    )
    new_head = bool(report["missing_keys"] or report["mismatched_keys"])
    if settings.ENCODER_IMAGE_SIZE is not None:
        image_processor = squashing_processor(network.config, image_processor, settings.ENCODER_IMAGE_SIZE)
    return network, image_processor, not new_head and own_classes(name) == classes


def load_network(name: str, what: str) -> tuple[ImageClassifier, ImageProcessor, list[str]]:
    """A classifier as it comes, with its own labels. Raises UserError."""
    network, image_processor, report = load(name, what)
    if missing := report["missing_keys"]:
        raise UserError(f"{what} has no weights for {sorted(missing)[0]}: it is an encoder, expected a classifier")
    try:
        classes = classes_in(network.config)
    except ValueError as error:
        raise UserError(f"{what} cannot be used: {error}") from error
    return ImageClassifier(network, find_head(network, example_pixels(image_processor))), image_processor, classes


def load(name: str, what: str, **how: Any) -> tuple[PreTrainedModel, Any, dict[str, Any]]:
    """What transformers loads of a Hub id or folder, and its report. Raises UserError."""
    try:
        check_reachable(name)
        with quiet_transformers():
            image_processor = AutoImageProcessor.from_pretrained(name)
            # the dtype is said because many Hub checkpoints are stored in fp16 and would load so
            network, report = AutoModelForImageClassification.from_pretrained(
                name, dtype=torch.float32, output_loading_info=True, **how
            )
    except Exception as error:  # a wrong folder or file fails in as many ways as there are models
        raise UserError(
            f"cannot load {what}: {first_line(error)}; expected a Hub id that can be reached, or a local folder with "
            "config.json and weights; without a network: docs/troubleshooting.md"
        ) from error
    changed = {name for name, _ in network.named_parameters()}
    if len(lost := [key for key in report["missing_keys"] if key in changed]) > 2:  # more than a head
        raise UserError(
            f"the weights of {what} lack {len(lost)} tensors, {sorted(lost)[0]} first: the file does not belong to its "
            "config.json"
        )
    return network, image_processor, report


def own_classes(name: str) -> list[str]:
    """The labels that a folder or Hub id comes with, [] where it has none."""
    try:
        with quiet_transformers():
            return classes_in(AutoConfig.from_pretrained(name))
    except ValueError:
        return []
