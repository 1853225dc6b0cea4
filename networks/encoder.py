"""A vision encoder: any model of AutoModel's as images -> image tokens; networks/encoders.py has where they come from.

    image_tokens = encoder(images)                      # (U, 3, H, W) -> (U, S, E)
    files = describe_encoder(encoder, image_processor)  # {"config.json": "...", ...}: enough to build both again
    encoder, image_processor = rebuild_encoder(files)   # same shapes, weights still to be loaded; needs no network

U images, S image tokens (patches or cells of the last feature map), E encoder width.
"""

import contextlib
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
import transformers
from PIL import Image
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, PreTrainedConfig, PreTrainedModel

import networks.small_resnet  # noqa: F401  # so that transformers knows it
from basics.errors import UserError
from basics.stored import Number, check, numbers_in, parse_json
from basics.timing import processor
from networks.parameters import train_last_blocks

LARGEST_NUMBER = 2**20  # in an encoder's config.json: more than any size, number of parts or token id
LARGEST_SIDE = 2048  # pixels of a prepared picture
SIDE = Number(int, 1, LARGEST_SIDE)
CONFIG = {
    "model_type": str,
    "pretrained_cfg?": {"input_size?": [SIDE], "crop_pct?": (Number(float, 0.5, 2), None)},  # timm's preprocessing
}
PREPROCESSING: dict = {}  # a mapping; its names differ from model to model

HELD = 25_000_000  # pixels of decoded pictures at once: 130 photographs of Flickr, two of a telephone
PLAIN, FUSED = "eager", "sdpa"  # transformers' names of attention in matrix products, and of PyTorch's fused one
UNUSED_PARTS = ("pooler", "head")  # read a summary vector off the tokens, which a captioner has no use for


def attention_here(found: dict[str, str]) -> str:
    """What was found for this processor, PLAIN where nothing was. Other words than the two may come from any file."""
    return FUSED if found.get(processor()) == FUSED else PLAIN


class ImageProcessor(Protocol):
    """A model's own preprocessing, as transformers has it: pictures -> {"pixel_values": (U, 3, H, W)}."""

    def __call__(self, images: list[Image.Image], *, return_tensors: str) -> Mapping[str, Tensor]: ...

    def save_pretrained(self, save_directory: str) -> object: ...

    def to_dict(self) -> dict: ...


class Encoder(nn.Module):
    """What makes image tokens (U, S, E) of pictures (U, 3, H, W) with a model of transformers."""

    backbone: PreTrainedModel

    def __init__(self, backbone: PreTrainedModel):
        super().__init__()
        self.backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-arg]  # its to() loses self
        self.attention: dict[str, str] = {}  # of CPUs in 16 bits, by processor (networks/attention.py)
        self.fused = getattr(backbone.config, "_attn_implementation", None) == "sdpa" and can_choose_attention(backbone)

    def run_backbone(self, images: Tensor) -> Any:
        """What the model gives for pictures (U, 3, H, W), with the attention that suits them."""
        self.choose_attention(images)
        # convolutions in bf16 are twice as fast so
        return self.backbone(pixel_values=images.contiguous(memory_format=torch.channels_last))

    def choose_attention(self, images: Tensor) -> None:
        """On a CPU in 16 bits transformers' plain attention may be faster than PyTorch's fused one."""
        half = torch.is_autocast_enabled("cpu") or images.dtype in (torch.bfloat16, torch.float16)
        wanted = attention_here(self.attention) if half and images.device.type == "cpu" else FUSED
        if self.fused and self.backbone.config._attn_implementation != wanted:
            self.backbone.set_attn_implementation(wanted)


class VisionEncoder(Encoder):
    """A vision model that returns only its last image tokens."""

    def __init__(self, backbone: PreTrainedModel):
        backbone = getattr(backbone, "vision_model", backbone)  # CLIP and SigLIP carry a text tower beside it
        for name in UNUSED_PARTS:
            part = getattr(backbone, name, None)
            if part is not None and any(True for _ in part.parameters()):
                setattr(backbone, name, None)
                if hasattr(backbone, "use_head"):
                    backbone.use_head = False
        if hasattr(backbone.config, "do_pooling"):
            backbone.config.do_pooling = False  # the timm wrapper would pool the tokens for nothing
        super().__init__(backbone)

    def forward(self, images: Tensor) -> Tensor:
        features = self.run_backbone(images).last_hidden_state
        if features.ndim == 3:
            return features  # (U, S, E)
        if features.shape[1] == self.feature_width:
            return features.flatten(2).transpose(1, 2)  # (U, E, h, w) -> (U, S, E)
        return features.flatten(1, 2)  # (U, h, w, E), as Swin in timm has it -> (U, S, E)

    @property
    def feature_width(self) -> int:
        """Channels of the last feature map of a convolutional or hierarchical model."""
        if (timm_model := getattr(self.backbone, "timm_model", None)) is not None:
            return timm_model.num_features
        config = self.backbone.config
        return config.hidden_sizes[-1] if hasattr(config, "hidden_sizes") else config.hidden_size

    def set_trainable(self, trainable: int | str) -> None:
        """Tune "none", "all", or the last N blocks and what follows them (final norm)."""
        train_last_blocks(self, trainable, "ENCODER_TRAINABLE", "encoder")

    def train(self, mode: bool = True) -> "VisionEncoder":
        """Frozen parts stay in eval mode, so their dropout is off; BatchNorm keeps its statistics in tuned parts too.

        A batch has few different pictures, and the averaged weights (EMA_DECAY) have no statistics of their own.
        """
        set_mode(self, mode)
        return self


def can_choose_attention(backbone: nn.Module) -> bool:
    """Not for timm's models, whose attention is timm's own."""
    return not hasattr(backbone, "timm_model") and getattr(backbone, "_can_set_attn_implementation", lambda: False)()


def set_mode(module: nn.Module, mode: bool) -> None:
    parameters = list(module.parameters())
    frozen = bool(parameters) and not any(p.requires_grad for p in parameters)
    module.training = mode and not frozen and not isinstance(module, nn.modules.batchnorm._BatchNorm)
    for child in module.children():
        set_mode(child, module.training)


def describe_encoder(encoder: Encoder, image_processor: ImageProcessor) -> dict[str, str]:
    """File name -> JSON text of the encoder's architecture and preprocessing."""
    files = describe_model(encoder.backbone.config, image_processor)
    config = json.loads(files["config.json"])
    for labels in ("id2label", "label2id", "label_names"):  # a classifier's labels say nothing about the encoder
        config.pop(labels, None)
    return {**files, "config.json": json.dumps(config, indent=2)}


def describe_model(config: PreTrainedConfig, image_processor: ImageProcessor) -> dict[str, str]:
    """The files that transformers reads a model's architecture and preprocessing from, by name."""
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        config.save_pretrained(folder)
        image_processor.save_pretrained(folder)
        return {path.name: path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("*.json"))}


def rebuild_encoder(files: dict[str, str]) -> tuple[VisionEncoder, ImageProcessor]:
    """Encoder and preprocessing that describe_encoder() wrote; the encoder's weights are random. Raises ValueError."""
    make_encoder, image_processor = read_encoder(files)
    return make_encoder(), image_processor


def read_encoder(files: dict[str, str]) -> tuple[Callable[[], VisionEncoder], ImageProcessor]:
    """What makes the encoder that describe_encoder() described, and its preprocessing. Raises ValueError."""
    config, image_processor = config_of(files)

    def make_encoder() -> VisionEncoder:
        with quiet_transformers():
            return VisionEncoder(AutoModel.from_config(config, dtype=torch.float32))

    return make_encoder, image_processor


def config_of(files: dict[str, str]) -> tuple[PreTrainedConfig, ImageProcessor]:
    """What describe_model() described. Raises ValueError for what no model has."""
    check_encoder_files(files)
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        for name, text in files.items():
            (Path(folder) / Path(name).name).write_text(text, encoding="utf-8")
        return AutoConfig.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)


def check_encoder_files(files: dict[str, str]) -> None:
    """Raises ValueError for numbers that no encoder has: they would become memory before anything is compared."""
    for name, text in files.items():
        content = parse_json(text, f"encoder/{name}")
        check(content, CONFIG if name == "config.json" else PREPROCESSING, f"encoder/{name}")
        check_numbers(content, LARGEST_NUMBER if name == "config.json" else LARGEST_SIDE, f"encoder/{name}")


def check_numbers(value: Any, at_most: int, where: str) -> None:
    """Of all whole numbers in lists and mappings; fractions are factors, not sizes."""
    for place, number in numbers_in(value, where):
        if isinstance(number, int):
            check(number, Number(int, -at_most, at_most), place)
        elif number.is_integer() or not math.isfinite(number):
            check(number, Number(float, -at_most, at_most), place)


def prepare_pixels(image_processor: ImageProcessor, images: Iterable[Image.Image]) -> Tensor:
    """RGB pictures through the encoder's own preprocessing, -> (U, 3, H, W).

    They may come as they are decoded: of large ones only a few are held at once.
    """

    def prepare(part: list[Image.Image]) -> Tensor:
        return image_processor(images=part, return_tensors="pt")["pixel_values"]

    parts = list(map(prepare, light_parts(images)))  # map() lets a part go before it asks for the next
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def example_pixels(image_processor: ImageProcessor) -> Tensor:
    """A picture that is not blank, prepared, (1, 3, H, W): to try a model with."""
    return prepare_pixels(image_processor, [Image.linear_gradient("L").convert("RGB")])


def light_parts(images: Iterable[Image.Image]) -> Iterator[list[Image.Image]]:
    """The pictures in order, as many at a time as have HELD pixels together, before the next is decoded."""
    part: list[Image.Image] = []
    held = 0
    for image in images:
        part.append(image)
        held += image.width * image.height
        del image  # part has it
        if held >= HELD:
            yield part
            part, held = [], 0
    if part:
        yield part


def token_shape(encoder: Encoder, image_processor: ImageProcessor) -> tuple[int, int]:
    """(S, E) of the tokens that one picture becomes, found by encoding a blank one."""
    was_training, device = encoder.training, next(encoder.parameters()).device
    encoder.eval()
    try:
        with torch.no_grad():
            tokens = encoder(prepare_pixels(image_processor, [Image.new("RGB", (64, 64))]).to(device))
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"{type(encoder.backbone).__name__} gives no image tokens ({error}); expected a vision encoder "
            "like ViT, CLIP, DINOv2 or a timm model"
        ) from error
    encoder.train(was_training)
    return tokens.shape[1], tokens.shape[2]


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars and load reports off the screen; what matters in them is checked here."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    hidden = "wandb" not in sys.modules
    if hidden:  # timm, which transformers imports here, would bring it along for nothing: half a second
        sys.modules["wandb"] = None  # type: ignore[assignment]  # as Python has it for what cannot be imported
    try:
        yield
    finally:
        if hidden:
            del sys.modules["wandb"]
        transformers.logging.set_verbosity(verbosity)
        transformers.logging.enable_progress_bar()
