"""Where encoders come from: a small ViT from scratch, or any vision model that AutoModel loads.

encoder, image_processor = load_encoder(settings)   # ENCODER_MODEL_NAME: a name of ENCODERS, a Hub id or a folder
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel, PreTrainedConfig, PreTrainedModel, ViTConfig, ViTImageProcessor

from basics.errors import UserError, first_line
from basics.hub_files import check_reachable
from basics.settings import Settings
from networks.encoder import ImageProcessor, VisionEncoder, quiet_transformers
from networks.small_resnet import SmallResNetConfig


def scratch_vit(settings: Settings) -> PreTrainedConfig:
    return ViTConfig(
        image_size=settings.SCRATCH_IMAGE_SIZE,
        patch_size=settings.SCRATCH_PATCH_SIZE,
        hidden_size=settings.SCRATCH_EMBED_DIM,
        num_hidden_layers=settings.SCRATCH_LAYERS,
        num_attention_heads=settings.SCRATCH_HEADS,
        intermediate_size=4 * settings.SCRATCH_EMBED_DIM,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def scratch_cnn(settings: Settings) -> PreTrainedConfig:
    """SCRATCH_LAYERS stages, each of twice the width of the one before; the last has SCRATCH_EMBED_DIM."""
    stages, width = settings.SCRATCH_LAYERS, settings.SCRATCH_EMBED_DIM
    widths = [max(1, width >> (stages - 1 - stage)) for stage in range(stages)]
    return SmallResNetConfig(widths=widths, stride=settings.SCRATCH_PATCH_SIZE, image_size=settings.SCRATCH_IMAGE_SIZE)


ScratchConfig = Callable[[Settings], PreTrainedConfig]
SCRATCH_CONFIGS: dict[str, ScratchConfig] = {"scratch": scratch_vit, "scratch-cnn": scratch_cnn}


def scratch_encoder(settings: Settings) -> tuple[VisionEncoder, ImageProcessor]:
    """The network of SCRATCH_CONFIGS that ENCODER_MODEL_NAME names, with random weights."""
    config = SCRATCH_CONFIGS[settings.ENCODER_MODEL_NAME](settings)
    backbone = AutoModel.from_config(config)
    set_positions(backbone)
    return VisionEncoder(backbone), squares_of(config.image_size)


def squares_of(side: int) -> ImageProcessor:
    return ViTImageProcessor(size={"height": side, "width": side})


@torch.no_grad()
def set_positions(model: PreTrainedModel) -> None:
    """Of a ViT from scratch: waves in the place of random numbers."""
    for name, positions in model.named_parameters():
        if name.endswith("embeddings.position_embeddings"):
            config = model.config
            positions[0, 1:] = position_waves(config.image_size // config.patch_size, config.hidden_size)


def position_waves(grid: int, width: int) -> Tensor:
    """Sine and cosine waves along x and y, (grid * grid, width): where positions start before they are learned.

    Small random positions take a ViT from scratch long to notice (Beyer et al. 2022, arXiv 2205.01580, use these).
    """
    frequencies = 1 / 10_000 ** (torch.arange(-(-width // 4)) / (width / 4))
    angles = torch.arange(grid)[:, None] * frequencies  # (grid, width / 4)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # (grid, width / 2)
    rows, columns = waves[:, None].expand(grid, grid, -1), waves[None].expand(grid, grid, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)[:, :width]


def pretrained_encoder(settings: Settings) -> tuple[VisionEncoder, ImageProcessor]:
    name = settings.ENCODER_MODEL_NAME
    try:
        check_reachable(name)
        with quiet_transformers():
            image_processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
            # the dtype is said because many Hub checkpoints are stored in fp16 and would load so
            backbone, report = AutoModel.from_pretrained(
                name, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
            )
    except Exception as error:  # a wrong folder or file fails in as many ways as there are models
        raise UserError(
            f"cannot load the encoder {name!r}: {first_line(error)}; expected a Hub id that can be reached, a local "
            "folder with config.json and weights, or 'scratch' (--encoder-model-name); without a network: "
            "docs/troubleshooting.md"
        ) from error
    encoder = VisionEncoder(backbone)
    used = {name for name, _ in backbone.named_parameters()}
    missing = [key for key in report["missing_keys"] if key in used and not is_text(key)]
    if missing:
        raise UserError(
            f"the weights of encoder {name!r} lack {len(missing)} tensors, {missing[0]} first: "
            "the file does not belong to its config.json"
        )
    if settings.ENCODER_IMAGE_SIZE is not None:
        image_processor = squashing_processor(backbone.config, image_processor, settings.ENCODER_IMAGE_SIZE)
    return encoder, image_processor


class ResizingProcessor(ImageProcessor, Protocol):
    """One of transformers that resizes and crops."""

    size: dict[str, int]
    do_resize: bool
    do_center_crop: bool


def squashing_processor(config: PreTrainedConfig, image_processor: ResizingProcessor, side: int) -> ImageProcessor:
    """The same preprocessing for whole pictures of one size: no cropping, which loses what captions speak of."""
    if hasattr(config, "pretrained_cfg"):  # timm's, where the encoder's own config.json describes the preprocessing
        config.pretrained_cfg |= {"input_size": [3, side, side], "crop_pct": 1.0, "crop_mode": "squash"}
        from transformers import TimmWrapperImageProcessor  # imports timm, which no other encoder needs

        return TimmWrapperImageProcessor(config.pretrained_cfg, config.architecture)
    image_processor.size = {"height": side, "width": side}
    image_processor.do_resize, image_processor.do_center_crop = True, False
    return image_processor


def is_text(key: str) -> bool:
    return key.startswith(("text_model.", "text_projection", "visual_projection", "logit_"))


# An encoder with a name of its own: settings -> (VisionEncoder, its image processor). All other names are pretrained.
ENCODERS: dict[str, Callable[[Settings], tuple[VisionEncoder, ImageProcessor]]] = dict.fromkeys(
    SCRATCH_CONFIGS, scratch_encoder
)


def load_encoder(settings: Settings) -> tuple[VisionEncoder, ImageProcessor]:
    """The encoder of ENCODER_MODEL_NAME with its weights, and its image processor. Raises UserError."""
    encoder, image_processor = ENCODERS.get(settings.ENCODER_MODEL_NAME, pretrained_encoder)(settings)
    encoder.set_trainable(settings.ENCODER_TRAINABLE)
    return encoder, image_processor
