"""A captioner as one artefact: model, tokenizer and preprocessing that belong together.

    captioner = load_captioner("checkpoints/my-run/best")     # or a checkpoint_*.pt, or a Hub id
    captioner.caption([load_image("photo.jpg")], DecodingOptions(beam_size=3))   # [[(text, Caption), ...]]
    save_captioner(captioner, folder, settings, record)       # what best/ and the Hub repository hold

The folder: model.safetensors, config.json (architecture, settings, tokenizer hash, epoch), vocab.json, merges.txt,
encoder/ (config.json and preprocessing of the encoder) and README.md (the model card). It needs nothing else to load.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from basics.checkpoint_file import read_checkpoint
from basics.errors import UserError
from basics.files import atomic_folder, recover_folder, write_atomically
from basics.hub_files import may_be_hub_id
from basics.settings import Settings, up_to_date
from model import ImageToTextModel
from networks.encoder import describe_encoder, prepare_pixels, rebuild_encoder
from networks.search import Caption, DecodingOptions, generate
from publishing.model_card import model_card
from tokenizer import CaptionTokenizer

NEEDED = ("config.json", "model.safetensors", "vocab.json", "merges.txt")
HUB_HINT = "expected a best/ folder, a checkpoint_*.pt file or a Hub id like user/name"


@dataclass
class Captioner:
    """What it takes to caption a picture; `config` is the content of config.json."""

    model: ImageToTextModel
    tokenizer: CaptionTokenizer
    image_processor: object
    config: dict

    def caption(self, images: list[Image.Image], options: DecodingOptions) -> list[list[tuple[str, Caption]]]:
        """RGB pictures -> for each its captions, best first, as text and as Caption."""
        return self.caption_pixels(prepare_pixels(self.image_processor, images), options)

    @torch.inference_mode()
    def caption_pixels(self, pixels: torch.Tensor, options: DecodingOptions) -> list[list[tuple[str, Caption]]]:
        """The same for prepared pixels or cached features, as in encode(); leaves the model in the mode it was in."""
        was_training = self.model.training
        self.model.eval()
        image_tokens = self.model.encode(pixels.to(self.model.device))
        captions = generate(self.model, image_tokens, self.tokenizer, options)
        self.model.train(was_training)
        return [[(self.tokenizer.decode(c.tokens), c) for c in row] for row in captions]


def bundle_config(captioner_model: ImageToTextModel, tokenizer: CaptionTokenizer, settings: Settings) -> dict:
    return {
        "model_type": "image-to-text",
        "architecture": captioner_model.architecture,
        "tokenizer_hash": tokenizer.hash,
        "lowercase": tokenizer.lowercase,
        "settings": settings.to_dict(),
    }


def save_captioner(captioner: Captioner, folder: Path, settings: Settings, record: dict) -> None:
    """Write the folder whole, then put it in the place of an older one; record holds the run's numbers for the card."""
    with atomic_folder(folder) as fresh:
        weights = {name: tensor.contiguous() for name, tensor in own_weights(captioner.model.state_dict()).items()}
        save_file(weights, fresh / "model.safetensors", metadata={"format": "pt"})
        write_atomically(fresh / "config.json", json.dumps({**captioner.config, "epoch": record["epoch"]}, indent=2))
        captioner.tokenizer.save(fresh / "vocab.json", fresh / "merges.txt")
        for name, text in describe_encoder(captioner.model.encoder, captioner.image_processor).items():
            write_atomically(fresh / "encoder" / name, text)
        write_atomically(fresh / "README.md", model_card(captioner.model, settings, record))


def own_weights(weights: dict) -> dict:
    """Those of the captioner, without what only its training needed."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith("training_only.")}


def load_captioner(path_or_repo_id: str | Path, device: str | torch.device = "cpu") -> Captioner:
    """A captioner in eval mode from a folder, a checkpoint file or the Hub. Raises UserError."""
    path = Path(path_or_repo_id).expanduser()
    recover_folder(path)
    if path.is_file():
        captioner = from_checkpoint(read_checkpoint(path), path)
    elif path.is_dir():
        captioner = from_folder(path)
    elif path.suffix in (".pt", ".safetensors") or not may_be_hub_id(str(path_or_repo_id)):
        raise UserError(f"there is no {path_or_repo_id}; {HUB_HINT}")
    else:
        from basics.hub_files import download

        captioner = from_folder(download(str(path_or_repo_id)))
    captioner.model.to(device).eval().requires_grad_(False)
    return captioner


def from_folder(folder: Path) -> Captioner:
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing or not (folder / "encoder").is_dir():
        raise UserError(f"{folder} is no captioner: it lacks {', '.join(missing) or 'encoder/'}; {HUB_HINT}")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["settings"] = up_to_date(config.get("settings", {}))
        encoder_files = {p.name: p.read_text(encoding="utf-8") for p in (folder / "encoder").glob("*.json")}
        weights = load_file(folder / "model.safetensors")
        lowercase, architecture, expected = config["lowercase"], config["architecture"], config["tokenizer_hash"]
    except (ValueError, KeyError, SafetensorError) as error:
        raise UserError(f"{folder} is damaged: {error}") from error
    tokenizer = CaptionTokenizer.load(folder / "vocab.json", folder / "merges.txt", lowercase)
    if tokenizer.hash != expected:
        raise UserError(
            f"{folder}/vocab.json and merges.txt (hash {tokenizer.hash}) are not the vocabulary the model "
            f"was trained with (hash {expected})"
        )
    return assemble(folder, architecture, encoder_files, weights, tokenizer, config)


def from_checkpoint(checkpoint: dict, path: Path) -> Captioner:
    tokenizer = CaptionTokenizer.from_dict(checkpoint["tokenizer"])
    config = {"architecture": checkpoint["architecture"], "settings": checkpoint["config"]}
    weights = own_weights(checkpoint["model_state_dict"] | checkpoint["average"]["values"])
    return assemble(path, checkpoint["architecture"], checkpoint["encoder_files"], weights, tokenizer, config)


def assemble(path, architecture, encoder_files, weights, tokenizer, config) -> Captioner:
    try:
        encoder, image_processor = rebuild_encoder(encoder_files)
        model = ImageToTextModel(encoder, **architecture)
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path} is damaged: its weights do not fit its architecture ({reason})") from error
    return Captioner(model, tokenizer, image_processor, config)
