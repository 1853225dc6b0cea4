"""A captioner's model built again from what a folder or a checkpoint says of it, all of which may be wrong.

description = Description(architecture, encoder_files, settings)
model, image_processor = rebuild_model(path, description, weights, tokenizer)
check_description(path, description, weights)       # only asks whether training could go on
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from basics.errors import UserError, reason_of
from basics.settings import ARCHITECTURE
from basics.stored import Each, Number, check, parse_json
from model import ImageToTextModel
from networks.encoder import ImageProcessor, prepare_pixels, read_encoder
from networks.rebuild import check_described, rebuild
from tokenizer import Tokenizer

SIZE = Number(int, 1, 2**31)
DESCRIBED = {
    "encoder_embed_dim": SIZE,
    "decoder?": str,
    "decoder_embed_dim": SIZE,
    "decoder_heads?": SIZE,
    "decoder_layers?": SIZE,
    "decoder_max_seq_len?": Number(int, 4, 2**20),
    "decoder_dropout?": Number(float, 0, 1),
    "decoder_config?": str,  # of a language model, as are those below
    "decoder_lead?": str,
    "decoder_prefix_tokens?": Number(int, 0, 2**20),
    "decoder_lora_rank?": Number(int, 0, 2**16),
    "decoder_lora_targets?": str,
}
SCRATCH = {  # settings of an encoder from scratch -> their names in its config.json
    "SCRATCH_IMAGE_SIZE": "image_size",
    "SCRATCH_PATCH_SIZE": "patch_size",
    "SCRATCH_EMBED_DIM": "hidden_size",
    "SCRATCH_LAYERS": "num_hidden_layers",
    "SCRATCH_HEADS": "num_attention_heads",
}


@dataclass(frozen=True)
class Description:
    """What is said of a model beside its weights."""

    architecture: dict
    encoder_files: dict[str, str]
    settings: dict[str, Any]  # it was trained with


def rebuild_model(
    path: Path, description: Description, weights: dict[str, Tensor], tokenizer: Tokenizer
) -> tuple[ImageToTextModel, ImageProcessor]:
    """The model in eval mode with its weights, and its preprocessing. Raises UserError where they do not fit."""
    try:
        make, image_processor = read_description(description)
        model = rebuild(make, weights).eval()
        try_out(model, image_processor, tokenizer)
    except Exception as error:  # a wrong description fails in as many ways as there are encoders
        raise UserError(misfit(path, error)) from error
    return model, image_processor


def check_description(path: Path, description: Description, weights: dict[str, Tensor]) -> None:
    """Raises UserError where training could not go on with the weights and what its settings build; builds nothing."""
    try:
        check_described(read_description(description)[0], weights)
        config = parse_json(description.encoder_files["config.json"], "encoder/config.json")
    except Exception as error:  # as above
        raise UserError(misfit(path, error)) from error
    scratch = description.settings.get("ENCODER_MODEL_NAME") == "scratch"
    encoder = {name: config.get(theirs) for name, theirs in SCRATCH.items()} if scratch else {}
    check_settings(path, description.architecture | encoder, description.settings)


def check_settings(path: Path, sizes: dict, settings: dict[str, Any]) -> None:
    """Raises UserError where the settings, by which training builds a model, say other sizes than it has."""
    said = {name.upper(): value for name, value in sizes.items()}
    said["MAX_SEQ_LEN"] = said.get("DECODER_MAX_SEQ_LEN")
    if "decoder_config" in sizes:  # a language model has a width of its own
        del said["DECODER_EMBED_DIM"]
    for name in ARCHITECTURE:
        ours, theirs = settings.get(name), said.get(name)
        if ours is not None and theirs is not None and ours != theirs:
            raise UserError(f"{path} is damaged: {name} is {ours!r} in its settings, {theirs!r} in its architecture")


def misfit(path: Path, error: Exception) -> str:
    return f"{path} is damaged: its weights do not fit its architecture ({reason_of(error)})"


def read_description(description: Description) -> tuple[Callable[[], ImageToTextModel], ImageProcessor]:
    """What makes the described model, and its preprocessing. Raises ValueError and what transformers raises."""
    architecture = description.architecture
    check(architecture, Each((str, Number(float, 0, 2**31))), "architecture")
    check(architecture, DESCRIBED, "architecture")
    check(description.encoder_files, {"config.json": str, "preprocessor_config.json?": str}, "encoder/")
    make_encoder, image_processor = read_encoder(description.encoder_files)
    return lambda: ImageToTextModel(make_encoder(), **architecture), image_processor


@torch.no_grad()
def try_out(model: ImageToTextModel, image_processor: ImageProcessor, tokenizer: Tokenizer) -> None:
    """The first token after a blank picture: what does not fit together fails here, not in the middle of the work."""
    if (size := model.architecture.get("decoder_vocab_size", len(tokenizer))) != len(tokenizer):
        raise ValueError(f"it was made for {size:,} tokens, its vocabulary has {len(tokenizer):,}")
    image_tokens = model.encode(prepare_pixels(image_processor, [Image.new("RGB", (64, 64))]))
    model.decode(torch.tensor([[tokenizer.start_id]]), model.start(image_tokens))
