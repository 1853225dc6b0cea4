"""A classifier as one artefact: model, classes and preprocessing that belong together.

    classifier = load_classifier("checkpoints/my-run/best")   # or a checkpoint_*.pt, a Hub id, anyone's classifier
    classifier.classify("photo.jpg", top_k=3)                 # [("cat", 0.93), ...], likeliest first
    save_classifier(classifier, folder, epoch=4, extra_files={"README.md": card})   # best/, the Hub repository

The folder is what transformers' AutoModelForImageClassification and its "image-classification" pipeline load, where the
architecture is one of theirs: config.json with the classes, model.safetensors, preprocessor_config.json (timm's is in
config.json). Beside them training.json (settings, epoch) and checksums.json.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from basics.checkpoint_file import read_checkpoint
from basics.devices import autocast, pick_precision
from basics.errors import UserError, reason_of
from basics.files import atomic_folder, recover_folder, write_atomically
from basics.hub_files import download
from basics.settings import Settings, constants, up_to_date
from basics.stored import COUNT, Each, check, json_of
from captioner.checksums import check_checksums, write_checksums
from captioner.flags import BATCH
from captioner.folder import Picture, trained_weights
from captioner.places import on_this_machine
from networks.attention import measure_attention
from networks.classifier import ImageClassifier, describe_classifier, from_network, read_classifier
from networks.classifiers import load_network
from networks.encoder import ImageProcessor, example_pixels, prepare_pixels
from networks.fast import make_fast
from networks.rebuild import check_described, rebuild
from sources.images import load_image

TRAINING = "training.json"
CONFIG = {"task": str, "head": str, "settings": dict, "epoch": COUNT, "attention?": Each(str)}
Label = tuple[str, float]  # a class and its probability


@dataclass
class Classifier:
    """What it takes to classify a picture; `config` is the content of training.json, empty where it is not ours."""

    model: ImageClassifier
    classes: list[str]
    image_processor: ImageProcessor
    config: dict[str, Any]

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def settings(self) -> Settings:
        """Those it was trained with; config.py's, which may be of the other task, where it has none."""
        return constants().replace(**self.config.get("settings", {})).replace(TASK="classify")

    def make_fast(self, precision: torch.dtype) -> None:
        """For answers and nothing else from now on, under autocast of that precision where it is not float32."""
        pixels = example_pixels(self.image_processor).to(self.device)
        self.model.encoder.attention = measure_attention(self.model.encoder, pixels, precision)
        make_fast(self.model, precision, lambda: self.model(pixels))

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """Prepared pixels (B, 3, H, W), or cached features (B, E), -> (B, C) in float32; leaves the model's mode."""
        was_training = self.model.training
        self.model.eval()
        logits = self.model(pixels.to(self.device)).float()
        self.model.train(was_training)
        return logits

    def classify_images(self, images: Iterable[Image.Image], top_k: int = 1) -> list[list[Label]]:
        """RGB pictures, as many as fit at once, perhaps still to be decoded -> the classes of each, likeliest first."""
        probabilities = self.logits(prepare_pixels(self.image_processor, images)).softmax(-1)
        best = probabilities.topk(min(top_k, len(self.classes)))
        return [
            [(self.classes[number], value) for number, value in zip(numbers, values)]
            for numbers, values in zip(best.indices.tolist(), best.values.tolist())
        ]

    @overload
    def classify(self, pictures: Picture, top_k: int = 1) -> list[Label]: ...

    @overload
    def classify(self, pictures: list[Picture], top_k: int = 1) -> list[list[Label]]: ...

    def classify(self, pictures: Picture | list[Picture], top_k: int = 1) -> list[Label] | list[list[Label]]:
        """A picture's classes with their probabilities, likeliest first; of a list of pictures a list of those.

        Pictures are files or Pillow's, of any mode. Raises ImageError for what cannot be read.
        """
        if isinstance(pictures, Picture):
            return self.classify([pictures], top_k)[0]
        rows: list[list[Label]] = []
        with autocast(self.device, pick_precision(self.settings, self.device)):
            for start in range(0, len(pictures), BATCH):
                rows += self.classify_images(map(load_image, pictures[start : start + BATCH]), top_k)
        return rows


def training_config(head: str, settings: dict[str, Any], epoch: int) -> dict[str, Any]:
    """The content of training.json; head: the name of the network's last layer, epoch: how many were trained."""
    return {"task": "classify", "head": head, "settings": settings, "epoch": epoch}


def save_classifier(classifier: Classifier, folder: Path, epoch: int, extra_files: dict[str, str]) -> None:
    """Write the folder whole, extra_files {name: text} among it, then put it in the place of an older one."""
    with atomic_folder(folder) as fresh:
        weights = {name: tensor.contiguous() for name, tensor in classifier.model.network_weights().items()}
        save_file(weights, fresh / "model.safetensors", metadata={"format": "pt"})
        texts = describe_classifier(classifier.model, classifier.image_processor)
        config = classifier.config | {"epoch": epoch, "attention": classifier.model.encoder.attention}
        texts[TRAINING] = json.dumps(config, indent=2)
        for name, text in (texts | extra_files).items():
            write_atomically(fresh / name, text)
        write_checksums(fresh, leave_out=set(extra_files))


def load_classifier(path_or_repo_id: str | Path, device: str | torch.device = "cpu") -> Classifier:
    """A classifier in eval mode from a folder, a checkpoint file or the Hub, ours or anyone's. Raises UserError."""
    recover_folder(Path(path_or_repo_id).expanduser())
    path = on_this_machine(path_or_repo_id)
    if path and path.is_file():
        classifier = classifier_from_checkpoint(read_checkpoint(path), path)
    else:
        folder = path or download(str(path_or_repo_id))
        classifier = classifier_from_folder(folder) if (folder / TRAINING).is_file() else foreign_classifier(folder)
    classifier.model.to(device).eval().requires_grad_(False)
    return classifier


def foreign_classifier(folder: Path) -> Classifier:
    """Anyone's, with its own labels."""
    model, image_processor, classes = load_network(str(folder), f"the classifier {folder}")
    return Classifier(model, classes, image_processor, {})


def classifier_from_folder(folder: Path) -> Classifier:
    """What save_classifier() wrote."""
    needed = ["config.json", "model.safetensors", TRAINING]
    if missing := [name for name in needed if not (folder / name).is_file()]:
        raise UserError(f"{folder} is no classifier: it lacks {', '.join(missing)}")
    described = [name for name in ("config.json", "preprocessor_config.json") if (folder / name).is_file()]
    check_checksums(folder, [*described, "model.safetensors", TRAINING])
    try:
        config = json_of(folder / TRAINING)
        check(config, CONFIG, TRAINING)
        config["settings"] = up_to_date(config["settings"])
        files = {name: (folder / name).read_text(encoding="utf-8") for name in described}
        weights = load_file(folder / "model.safetensors")
    except (ValueError, SafetensorError) as error:
        raise UserError(f"{folder} is damaged: {reason_of(error)}") from error
    return rebuilt(folder, files, config, from_network(weights, config["head"]))


def rebuilt(path: Path, files: dict[str, str], config: dict[str, Any], weights: dict[str, Tensor]) -> Classifier:
    """The described classifier with its weights. Raises UserError where they do not fit."""
    try:
        make, image_processor, classes = read_classifier(files, config["head"])
        model = rebuild(make, weights).eval()
        with torch.no_grad():
            logits = model(example_pixels(image_processor))
        if logits.shape != (1, len(classes)):
            raise ValueError(f"it gives {list(logits.shape)} numbers for {len(classes)} classes")
    except Exception as error:  # a wrong description fails in as many ways as there are models
        raise UserError(f"{path} is damaged: its weights do not fit its config.json ({reason_of(error)})") from error
    model.encoder.attention = config.get("attention", {})
    return Classifier(model, classes, image_processor, config)


def classifier_parts(classifier: Classifier) -> dict[str, Any]:
    """What a checkpoint holds of it beside the weights."""
    files = describe_classifier(classifier.model, classifier.image_processor)
    described = {"files": files, "head": classifier.model.head_name}
    return {"classifier": described, "attention": classifier.model.encoder.attention}


def classifier_from_checkpoint(checkpoint: dict[str, Any], path: Path) -> Classifier:
    """Of what read_checkpoint() gives; path is for messages."""
    if "classifier" not in checkpoint:
        raise UserError(f"{path} is a checkpoint, but of no classifier")
    described = checkpoint["classifier"]
    config = training_config(described["head"], checkpoint["config"], checkpoint["epoch"])
    config["attention"] = checkpoint.get("attention", {})
    return rebuilt(path, described["files"], config, trained_weights(checkpoint))


def check_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Raises UserError where its weights are not those of the classifier it describes; builds nothing."""
    described = checkpoint["classifier"]
    try:
        check_described(read_classifier(described["files"], described["head"])[0], trained_weights(checkpoint))
    except Exception as error:  # as in rebuilt()
        raise UserError(f"{path} is damaged: its weights do not fit its classifier ({reason_of(error)})") from error
