"""Vision encoders: any model AutoModel loads, or a small ViT from scratch, as images -> image tokens.

    encoder, image_processor = load_encoder(settings)   # from a Hub id, a folder, or "scratch"
    image_tokens = encoder(images)                      # (U, 3, H, W) -> (U, S, E)
    files = describe_encoder(encoder, image_processor)  # {"config.json": "...", ...}: enough to build both again
    encoder, image_processor = rebuild_encoder(files)   # same shapes, weights still to be loaded; needs no network

U images, S image tokens (patches or cells of the last feature map), E encoder width.
"""

import contextlib
import json
import tempfile
from pathlib import Path

import torch
import transformers
from PIL import Image
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, ViTConfig, ViTImageProcessor

from basics.errors import UserError
from basics.settings import Settings

UNUSED_PARTS = ("pooler", "head")  # read a summary vector off the tokens, which a captioner has no use for


class VisionEncoder(nn.Module):
    """A transformers vision model that returns only its last image tokens, (U, 3, H, W) -> (U, S, E)."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        backbone = getattr(backbone, "vision_model", backbone)  # CLIP and SigLIP carry a text tower beside it
        for name in UNUSED_PARTS:
            part = getattr(backbone, name, None)
            if part is not None and any(True for _ in part.parameters()):
                setattr(backbone, name, None)
                if hasattr(backbone, "use_head"):
                    backbone.use_head = False
        if hasattr(backbone.config, "do_pooling"):
            backbone.config.do_pooling = False  # the timm wrapper would pool the tokens for nothing
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.fused = getattr(backbone.config, "_attn_implementation", None) == "sdpa" and can_choose_attention(backbone)

    def forward(self, images: Tensor) -> Tensor:
        self.choose_attention(images)
        images = images.contiguous(memory_format=torch.channels_last)  # convolutions in bf16 are twice as fast so
        features = self.backbone(pixel_values=images).last_hidden_state
        if features.ndim == 3:
            return features  # (U, S, E)
        if features.shape[1] == self.feature_width:
            return features.flatten(2).transpose(1, 2)  # (U, E, h, w) -> (U, S, E)
        return features.flatten(1, 2)  # (U, h, w, E), as Swin in timm has it -> (U, S, E)

    def choose_attention(self, images: Tensor) -> None:
        """On a CPU in 16 bits transformers' plain attention is faster than PyTorch's fused one."""
        half = torch.is_autocast_enabled("cpu") or images.dtype in (torch.bfloat16, torch.float16)
        wanted = "eager" if half and images.device.type == "cpu" else "sdpa"
        if self.fused and self.backbone.config._attn_implementation != wanted:
            self.backbone.set_attn_implementation(wanted)

    @property
    def feature_width(self) -> int:
        """Channels of the last feature map of a convolutional or hierarchical model."""
        if hasattr(self.backbone, "timm_model"):
            return self.backbone.timm_model.num_features
        config = self.backbone.config
        return config.hidden_sizes[-1] if hasattr(config, "hidden_sizes") else config.hidden_size

    def blocks(self) -> nn.Module:
        """The list of blocks that holds most of the weights, from the first to the last."""
        stacks = [m for m in self.modules() if isinstance(m, (nn.ModuleList, nn.Sequential)) and len(m) > 1]
        return max(stacks, key=lambda stack: sum(p.numel() for p in stack.parameters()), default=nn.ModuleList())

    def set_trainable(self, trainable: int | str) -> None:
        """Tune "none", "all", or the last N blocks and what follows them (final norm)."""
        self.requires_grad_(trainable == "all")
        if trainable in ("none", "all"):
            return
        blocks = self.blocks()
        if trainable > len(blocks):
            raise UserError(
                f"ENCODER_TRAINABLE is {trainable}, but this encoder has {len(blocks)} blocks; "
                f'expected 1 to {len(blocks)}, "none" or "all"'
            )
        first = next(blocks[len(blocks) - trainable].parameters())
        reached = False
        for (
            parameter
        ) in self.parameters():  # in the order of definition: what comes after the block is nearer the output
            reached = reached or parameter is first
            parameter.requires_grad_(reached)

    def train(self, mode: bool = True) -> "VisionEncoder":
        """Frozen parts stay in eval mode, so their dropout is off; BatchNorm keeps its statistics in tuned parts too.

        A batch has few different pictures, and the averaged weights (EMA_DECAY) have no statistics of their own.
        """
        set_mode(self, mode)
        return self


def can_choose_attention(backbone: nn.Module) -> bool:
    return getattr(backbone, "_can_set_attn_implementation", lambda: False)()


def set_mode(module: nn.Module, mode: bool) -> None:
    parameters = list(module.parameters())
    frozen = bool(parameters) and not any(p.requires_grad for p in parameters)
    module.training = mode and not frozen and not isinstance(module, nn.modules.batchnorm._BatchNorm)
    for child in module.children():
        set_mode(child, module.training)


def load_encoder(settings: Settings) -> tuple[VisionEncoder, object]:
    """The encoder of ENCODER_MODEL_NAME with its weights, and its image processor. Raises UserError."""
    if settings.ENCODER_MODEL_NAME == "scratch":
        encoder, image_processor = scratch_encoder(settings)
    else:
        encoder, image_processor = pretrained_encoder(settings.ENCODER_MODEL_NAME)
        if settings.ENCODER_IMAGE_SIZE is not None:
            image_processor = squashing_processor(encoder, image_processor, settings.ENCODER_IMAGE_SIZE)
    encoder.set_trainable(settings.ENCODER_TRAINABLE)
    return encoder, image_processor


def scratch_encoder(settings: Settings) -> tuple[VisionEncoder, object]:
    side = settings.SCRATCH_IMAGE_SIZE
    config = ViTConfig(
        image_size=side,
        patch_size=settings.SCRATCH_PATCH_SIZE,
        hidden_size=settings.SCRATCH_EMBED_DIM,
        num_hidden_layers=settings.SCRATCH_LAYERS,
        num_attention_heads=settings.SCRATCH_HEADS,
        intermediate_size=4 * settings.SCRATCH_EMBED_DIM,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    encoder = VisionEncoder(AutoModel.from_config(config))
    with torch.no_grad():
        encoder.backbone.embeddings.position_embeddings[0, 1:] = position_waves(
            side // config.patch_size, config.hidden_size
        )
    return encoder, ViTImageProcessor(size={"height": side, "width": side})


def position_waves(grid: int, width: int) -> Tensor:
    """Sine and cosine waves along x and y, (grid * grid, width): where positions start before they are learned.

    Small random positions take a ViT from scratch long to notice (Beyer et al. 2022, arXiv 2205.01580, use these).
    """
    frequencies = 1 / 10_000 ** (torch.arange(-(-width // 4)) / (width / 4))
    angles = torch.arange(grid)[:, None] * frequencies  # (grid, width / 4)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # (grid, width / 2)
    rows, columns = waves[:, None].expand(grid, grid, -1), waves[None].expand(grid, grid, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)[:, :width]


def pretrained_encoder(name: str) -> tuple[VisionEncoder, object]:
    try:
        with quiet_transformers():
            image_processor = AutoImageProcessor.from_pretrained(name)
            # the dtype is said because many Hub checkpoints are stored in fp16 and would load so
            backbone, report = AutoModel.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
    except Exception as error:  # a wrong folder or file fails in as many ways as there are models
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"cannot load the encoder {name!r}: {reason} Expected a Hub id that can be reached, a local "
            "folder with config.json and weights, or 'scratch' (--encoder-model-name)"
        ) from error
    encoder = VisionEncoder(backbone)
    used = {name for name, _ in backbone.named_parameters()}
    missing = [key for key in report["missing_keys"] if key in used and not is_text(key)]
    if missing:
        raise UserError(
            f"the weights of encoder {name!r} lack {len(missing)} tensors, {missing[0]} first: "
            "the file does not belong to its config.json"
        )
    return encoder, image_processor


def squashing_processor(encoder: VisionEncoder, image_processor, side: int):
    """The same preprocessing for whole pictures of one size: no cropping, which loses what captions speak of."""
    config = encoder.backbone.config
    if hasattr(config, "pretrained_cfg"):  # timm's, where the encoder's own config.json describes the preprocessing
        config.pretrained_cfg |= {"input_size": [3, side, side], "crop_pct": 1.0, "crop_mode": "squash"}
        return type(image_processor)(config.pretrained_cfg, config.architecture)
    image_processor.size = {"height": side, "width": side}
    image_processor.do_resize, image_processor.do_center_crop = True, False
    return image_processor


def is_text(key: str) -> bool:
    return key.startswith(("text_model.", "text_projection", "visual_projection", "logit_"))


def describe_encoder(encoder: VisionEncoder, image_processor) -> dict[str, str]:
    """File name -> JSON text of the encoder's architecture and preprocessing."""
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        encoder.backbone.config.save_pretrained(folder)
        image_processor.save_pretrained(folder)
        files = {path.name: path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("*.json"))}
    config = json.loads(files["config.json"])
    for labels in ("id2label", "label2id", "label_names"):  # a classifier's labels say nothing about the encoder
        config.pop(labels, None)
    return {**files, "config.json": json.dumps(config, indent=2)}


def rebuild_encoder(files: dict[str, str]) -> tuple[VisionEncoder, object]:
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        for name, text in files.items():
            (Path(folder) / Path(name).name).write_text(text, encoding="utf-8")
        config = AutoConfig.from_pretrained(folder)
        image_processor = AutoImageProcessor.from_pretrained(folder)
        return VisionEncoder(AutoModel.from_config(config, dtype=torch.float32)), image_processor


def prepare_pixels(image_processor, images: list[Image.Image]) -> Tensor:
    """RGB pictures through the encoder's own preprocessing, -> (U, 3, H, W)."""
    return image_processor(images=images, return_tensors="pt")["pixel_values"]


def token_shape(encoder: VisionEncoder, image_processor) -> tuple[int, int]:
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
def quiet_transformers():
    """Keep transformers' progress bars and load reports off the screen; what matters in them is checked here."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        transformers.logging.enable_progress_bar()
