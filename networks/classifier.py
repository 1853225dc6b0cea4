"""ImageClassifier: any image classifier of transformers or timm as an encoder and a linear head over what it pools.

    model = ImageClassifier(network, head="classifier")
    logits = model(images)                              # (B, 3, H, W) -> (B, C)
    logits = model(model.features(images))              # what the head reads, (B, E)
    files = describe_classifier(model, classes, image_processor)    # {"config.json": "...", ...}, enough to build both
    make, image_processor, classes = read_classifier(files, head)   # again, weights still to be loaded

B pictures, C classes, E width of what the head reads.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageClassification, PreTrainedModel

from basics.errors import UserError
from networks.encoder import Encoder, ImageProcessor, config_of, describe_model, quiet_transformers, set_mode
from networks.hooks import ActivationHooks
from networks.parameters import ParameterGroup, TrainableModel, blocks_of, merged, parameter_groups, train_last_blocks

INSIDE = "encoder.backbone."  # what the network's own names stand after


class PooledEncoder(Encoder):
    """A network that has lost its head: one token a picture (B, 1, E), which the head would read."""

    def forward(self, images: Tensor) -> Tensor:
        pooled: Tensor = self.run_backbone(images).logits
        return pooled.flatten(1)[:, None]


class ImageClassifier(TrainableModel):
    """A classifier of transformers, cut before its last layer: `encoder` gives what `head` reads."""

    def __init__(self, network: PreTrainedModel, head: str):
        """head: the name of the network's last layer, find_head() finds it."""
        super().__init__()
        self.head_name, self.network_type = head, type(network).__name__
        last = network.get_submodule(head)
        if not isinstance(last, nn.Linear):
            raise ValueError(f"{head} is a {type(last).__name__}, expected the linear layer that gives logits")
        self.head = last
        network.set_submodule(head, nn.Identity())
        self.encoder = PooledEncoder(network)
        self.training_only = nn.ModuleDict()  # what a loss trains beside the classifier; never saved as a part of it

    @property
    def device(self) -> torch.device:
        return next(p.device for p in self.parameters() if not p.is_meta)  # networks/fast.py says shapes so

    def features(self, images: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) -> (B, E)."""
        return self.encoder(images)[:, 0]

    def forward(self, images: Tensor) -> Tensor:
        """Pixels, or what features() made of them -> logits (B, C)."""
        return self.head(self.features(images) if images.ndim == 4 else images.to(self.head.weight.dtype))

    def set_trainable(self, trainable: int | str) -> None:
        """Of the encoder "none", "all", or the last N blocks and what follows them; the head always."""
        train_last_blocks(self.encoder, trainable, "ENCODER_TRAINABLE", "encoder")

    def train(self, mode: bool = True) -> "ImageClassifier":
        """Frozen parts stay in eval mode and BatchNorm keeps its statistics, as in VisionEncoder."""
        set_mode(self, mode)
        return self

    def parameter_groups(self) -> list[ParameterGroup]:
        """The head before the encoder, so that its learning rate is the one that is shown."""
        beside = parameter_groups("classifier", self.training_only)
        return merged([*parameter_groups("classifier", self.head), *beside, *parameter_groups("encoder", self.encoder)])

    def parts_that_run_alone(self) -> list[nn.Module]:
        return [*blocks_of(self.encoder), *self.training_only.values()]

    def network_weights(self) -> dict[str, Tensor]:
        """Under the names of the network that it was made of, as transformers loads them."""
        return to_network(self.state_dict(), self.head_name)


def to_network(weights: dict[str, Tensor], head: str) -> dict[str, Tensor]:
    """Names of an ImageClassifier -> those of its network; without what only its training needed."""
    renamed = {name.removeprefix(INSIDE): t for name, t in weights.items() if name.startswith(INSIDE)}
    return renamed | {
        f"{head}.{part}": weights[f"head.{part}"] for part in ("weight", "bias") if f"head.{part}" in weights
    }


def from_network(weights: dict[str, Tensor], head: str) -> dict[str, Tensor]:
    """Names of a network -> those of the ImageClassifier made of it."""
    of_head = {f"{head}.{part}": f"head.{part}" for part in ("weight", "bias")}
    return {of_head.get(name, INSIDE + name): tensor for name, tensor in weights.items()}


@torch.no_grad()
def find_head(network: PreTrainedModel, pixels: Tensor) -> str:
    """The name of the linear layer whose output is the logits of pixels (1, 3, H, W). Raises UserError without one."""
    linears = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    network.eval()
    try:
        with ActivationHooks(network, linears) as outputs:
            logits = network(pixel_values=pixels).logits
            found = [name for name, output in outputs.items() if output is logits]
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"{type(network).__name__} does not classify pictures of {pixels.shape[-1]} x {pixels.shape[-2]} pixels "
            f"({error}); expected an image classifier or encoder, and an ENCODER_IMAGE_SIZE that it takes"
        ) from error
    if not found:
        raise UserError(f"{type(network).__name__} has no linear layer at its end; expected one like ViT's classifier")
    return found[-1]


def labels_of(classes: list[str]) -> dict[str, object]:
    """Classes as a transformers config has them."""
    return {
        "num_labels": len(classes),
        "id2label": dict(enumerate(classes)),
        "label2id": {name: number for number, name in enumerate(classes)},
    }


def describe_classifier(model: ImageClassifier, image_processor: ImageProcessor) -> dict[str, str]:
    """File name -> JSON text of the network's architecture, its classes and preprocessing, as transformers reads it."""
    config = copy.deepcopy(model.encoder.backbone.config)
    config.architectures = [model.network_type]
    for name in ("label_names", "label_descriptions"):  # timm's own, which would win over id2label
        config.__dict__.pop(name, None)
    return describe_model(config, image_processor)


def read_classifier(
    files: dict[str, str], head: str
) -> tuple[Callable[[], ImageClassifier], ImageProcessor, list[str]]:
    """What makes the classifier that describe_classifier() described, its preprocessing, its classes.

    Raises ValueError.
    """
    config, image_processor = config_of(files)

    def make() -> ImageClassifier:
        with quiet_transformers():
            return ImageClassifier(AutoModelForImageClassification.from_config(config, dtype=torch.float32), head)

    return make, image_processor, classes_in(config)


def classes_in(config: object) -> list[str]:
    """The labels of a transformers config, by their number. Raises ValueError where they are not numbered from 0."""
    labels = {int(number): str(name) for number, name in (getattr(config, "id2label", None) or {}).items()}
    if not labels or sorted(labels) != list(range(len(labels))):
        raise ValueError("config.json has no labels numbered from 0 (id2label)")
    return [labels[number] for number in range(len(labels))]
