"""What the tests share: a captioner small enough to train in a second, and scripts in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from transformers import AutoModel, ViTConfig, ViTImageProcessor

from basics.settings import Settings, load_settings
from model import ImageToTextModel, make_model
from networks.encoder import VisionEncoder
from networks.encoders import load_encoder
from tokenizer import CaptionTokenizer, train_tokenizer

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"  # real pictures and weights, only on machines that have them
TINY = {
    "SHAPES_NUM_IMAGES": 40,
    "VOCAB_SIZE": 300,
    "SCRATCH_IMAGE_SIZE": 32,
    "SCRATCH_PATCH_SIZE": 16,
    "SCRATCH_EMBED_DIM": 16,
    "SCRATCH_LAYERS": 1,
    "SCRATCH_HEADS": 2,
    "DECODER_EMBED_DIM": 16,
    "DECODER_HEADS": 2,
    "DECODER_LAYERS": 1,
    "DECODER_FF_DIM": 32,
    "DECODER_DROPOUT": 0.1,
    "NUM_EPOCHS": 2,
    "BATCH_SIZE": 40,
    "WARMUP_STEPS": 2,
    "NUM_SAMPLE_CAPTIONS": 1,
    "NUM_VALIDATION_CAPTIONS": 2,
}
CAPTIONS = ["a small red circle", "a large blue square left of a small red circle", "there is a large blue square"] * 4


def flags(**settings) -> list[str]:
    """{"NUM_EPOCHS": 2} -> ["--num-epochs", "2"]."""
    return [part for name, value in settings.items() for part in (f"--{name.lower().replace('_', '-')}", str(value))]


def environment(**variables) -> dict[str, str]:
    """That of the tests (conftest.py), and these."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", **variables}


def run(script: str, *arguments, cwd: Path, **variables) -> subprocess.CompletedProcess:
    """A script to its end, as a user starts it; its output is shown where a test fails."""
    command, env = [sys.executable, str(ROOT / script), *map(str, arguments)], environment(**variables)
    result = subprocess.run(command, cwd=cwd, env=env, text=True, capture_output=True, timeout=300)
    print(result.stdout, result.stderr)
    return result


def tiny_settings(**changes) -> Settings:
    return load_settings([], **{**TINY, **changes})


def tiny_tokenizer() -> CaptionTokenizer:
    return train_tokenizer(CAPTIONS, 300, 1, lowercase=True)


def tiny_model(seed: int = 0, **changes) -> tuple[ImageToTextModel, object]:
    """A random captioner in eval mode and its image processor."""
    settings = tiny_settings(**changes)
    torch.manual_seed(seed)
    encoder, image_processor = load_encoder(settings)
    return wrap(encoder, image_processor, settings), image_processor


def save_tiny_vit(folder: Path) -> Path:
    """A random ViT in transformers' format, as ENCODER_MODEL_NAME takes it."""
    config = ViTConfig(
        image_size=32, patch_size=16, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48
    )
    AutoModel.from_config(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def wrap(encoder: VisionEncoder, image_processor, settings: Settings) -> ImageToTextModel:
    return make_model(encoder, image_processor, tiny_tokenizer(), settings).eval()


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model_state_dict"]


def same_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
