"""A captioner as one artefact: model, tokenizer and preprocessing that belong together.

    captioner = load_captioner("checkpoints/my-run/best")     # or a checkpoint_*.pt, or a Hub id
    captioner.caption("photo.jpg")                            # [(text, Caption), ...], best first
    save_captioner(captioner, folder, epoch=4, extra_files={"README.md": card})   # best/, the Hub repository

The folder: model.safetensors, config.json (architecture, settings, tokenizer hash, epoch), the vocabulary (vocab.json
and merges.txt; a language model's is tokenizer.json and tokenizer_config.json), encoder/ (config.json and preprocessing
of the encoder), checksums.json of all these, and what else its maker gives it, such as a model card. It needs nothing
else to load.
From another folder than the project's: PYTHONPATH=path/to/the/project python your_script.py
"""

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from basics.checkpoint_file import read_checkpoint
from basics.devices import autocast, pick_precision
from basics.errors import UserError, reason_of
from basics.files import atomic_folder, recover_folder, write_atomically
from basics.hub_files import download
from basics.settings import Settings, constants, up_to_date
from basics.stored import COUNT, Each, check, json_of
from captioner.checksums import check_checksums, write_checksums
from captioner.flags import BATCH
from captioner.places import EXPECTED, is_classifier, on_this_machine
from captioner.rebuilt import Description, rebuild_model
from model import ImageToTextModel
from networks.attention import measure_attention
from networks.caption import Captioned
from networks.decoder import PictureModel
from networks.decoding_options import DecodingFlags, DecodingOptions
from networks.encoder import ImageProcessor, VisionEncoder, describe_encoder, example_pixels, prepare_pixels
from networks.fast import make_fast
from networks.search import generate
from sources.images import load_image
from tokenizer import Tokenizer, tokenizer_files, tokenizer_from_dict, tokenizer_of_folder

NEEDED = ("config.json", "model.safetensors")  # and the vocabulary
CONFIG = {
    "architecture": dict,
    "tokenizer_hash": str,
    "lowercase": bool,
    "settings?": dict,
    "epoch?": COUNT,
    "attention?": Each(str),
}
Picture = str | Path | Image.Image  # a file, or what Pillow has opened or made
P = TypeVar("P", bound=Picture)
M = TypeVar("M", bound=PictureModel[Any])


@dataclass
class ModelCaptioner(Generic[M]):
    """What it takes to caption a picture; `config` is the content of config.json, wherever the captioner came from."""

    model: M
    tokenizer: Tokenizer
    image_processor: ImageProcessor
    config: dict

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def settings(self) -> Settings:
        """Those it was trained with; config.py's where it is older than a setting."""
        return constants().replace(**self.config["settings"])

    def make_fast(self, precision: torch.dtype) -> None:
        """For captions and nothing else from now on, under autocast of that precision where it is not float32."""

        def run() -> torch.Tensor:
            cache = self.model.start(self.model.encode(pixels))
            return self.model.decode(torch.tensor([[self.tokenizer.start_id]], device=self.device), cache)[0]

        pixels = example_pixels(self.image_processor).to(self.device)
        for encoder in self.model.modules():  # type: ignore[attr-defined]  # a protocol cannot be a kind of nn.Module
            if isinstance(encoder, VisionEncoder):
                encoder.attention = measure_attention(encoder, pixels, precision)
        make_fast(self.model, precision, run)  # type: ignore[arg-type]  # as above

    @property
    def own_options(self) -> DecodingOptions:
        """How it captions where nobody says otherwise; DecodingFlags.over() has the last word on sampling."""
        own = self.settings
        return DecodingOptions(
            beam_size=own.BEAM_SIZE,
            length_penalty=own.LENGTH_PENALTY,
            temperature=own.TEMPERATURE,
            top_k=own.TOP_K,
            top_p=own.TOP_P,
        )

    @overload
    def caption(self, pictures: Picture, options: DecodingOptions | None = None) -> list[Captioned]: ...

    @overload
    def caption(self, pictures: list[P], options: DecodingOptions | None = None) -> list[list[Captioned]]: ...

    def caption(
        self, pictures: Picture | list[P], options: DecodingOptions | None = None
    ) -> list[Captioned] | list[list[Captioned]]:
        """A picture's captions, best first, as (text, Caption) pairs; of a list of pictures a list of those.

        Pictures are files or Pillow's, of any mode. Options and precision are the captioner's own unless given.
        Raises ImageError for what cannot be read.
        """
        if isinstance(pictures, Picture):
            return self.caption([pictures], options)[0]
        options, rows = options or DecodingFlags().over(self.own_options), []
        with autocast(self.device, pick_precision(self.settings, self.device)):
            for start in range(0, len(pictures), BATCH):
                rows += self.caption_images(map(load_image, pictures[start : start + BATCH]), options)
        return rows

    def caption_images(self, images: Iterable[Image.Image], options: DecodingOptions) -> list[list[Captioned]]:
        """RGB pictures, as many as fit at once, perhaps still to be decoded -> for each its captions, best first."""
        return self.caption_pixels(prepare_pixels(self.image_processor, images), options)

    @torch.inference_mode()
    def caption_pixels(self, pixels: torch.Tensor, options: DecodingOptions) -> list[list[Captioned]]:
        """The same for prepared pixels or cached features, as in encode(); leaves the model in the mode it was in."""
        was_training = self.model.training
        self.model.eval()
        image_tokens = self.model.encode(pixels.to(self.device))
        captions = generate(self.model, image_tokens, self.tokenizer, options)
        self.model.train(was_training)
        return [[(self.tokenizer.decode(c.tokens), c) for c in row] for row in captions]


class Captioner(ModelCaptioner[ImageToTextModel]):
    """A captioner of one model, as train.py makes them; the others are ensembles of such."""


def captioner_config(model: ImageToTextModel, tokenizer: Tokenizer, settings: dict, epoch: int) -> dict:
    """The content of config.json: what the weights alone do not say. epoch: how many were trained."""
    return {
        "model_type": "image-to-text",
        "architecture": model.architecture,
        "tokenizer_hash": tokenizer.hash,
        "lowercase": tokenizer.lowercase,
        "settings": settings,
        "epoch": epoch,
        "attention": model.encoder.attention,
    }


def save_captioner(captioner: Captioner, folder: Path, epoch: int, extra_files: dict[str, str]) -> None:
    """Write the folder whole, extra_files {name: text} among it, then put it in the place of an older one."""
    with atomic_folder(folder) as fresh:
        weights = {name: tensor.contiguous() for name, tensor in own_weights(captioner.model.state_dict()).items()}
        save_file(weights, fresh / "model.safetensors", metadata={"format": "pt"})
        write_atomically(fresh / "config.json", json.dumps({**captioner.config, "epoch": epoch}, indent=2))
        encoder = describe_encoder(captioner.model.encoder, captioner.image_processor)
        texts = captioner.tokenizer.files() | {f"encoder/{name}": text for name, text in encoder.items()} | extra_files
        for name, text in texts.items():
            write_atomically(fresh / name, text)
        write_checksums(fresh, leave_out=set(extra_files))


def without_adapters(captioner: Captioner) -> Captioner:
    """A copy that needs no adapters of its language model: what they learned is in the model's own weights."""
    model = copy.deepcopy(captioner.model)
    model.decoder.merge()  # type: ignore[attr-defined]  # of a decoder with LORA_RANK
    model.architecture["decoder_lora_rank"] = 0
    settings = {**captioner.config["settings"], "LORA_RANK": 0}
    config = captioner_config(model, captioner.tokenizer, settings, captioner.config["epoch"])
    return Captioner(model, captioner.tokenizer, captioner.image_processor, config)


def own_weights(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those of a captioner or a classifier, without what only its training needed."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith("training_only.")}


def load_captioner(path_or_repo_id: str | Path, device: str | torch.device = "cpu") -> Captioner:
    """A captioner in eval mode from a folder, a checkpoint file or the Hub. Raises UserError."""
    recover_folder(Path(path_or_repo_id).expanduser())
    path = on_this_machine(path_or_repo_id)
    if path and path.is_file():
        captioner = captioner_from_checkpoint(read_checkpoint(path), path)
    else:
        captioner = captioner_from_folder(path or download(str(path_or_repo_id)))
    captioner.model.to(device).eval().requires_grad_(False)
    return captioner


def captioner_from_folder(folder: Path) -> Captioner:
    if is_classifier(folder):
        raise UserError(not_a_captioner(folder))
    needed = [*NEEDED, *tokenizer_files(folder)]
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing or not (folder / "encoder").is_dir():
        hint = f"did you mean {folder / 'best'}?" if (folder / "best").is_dir() else EXPECTED
        raise UserError(f"{folder} is no captioner: it lacks {', '.join(missing) or 'encoder/'}; {hint}")
    encoder = sorted((folder / "encoder").glob("*.json"))
    check_checksums(folder, [*needed, *(f"encoder/{path.name}" for path in encoder)])
    try:
        config = json_of(folder / "config.json")
        check(config, CONFIG, "config.json")
        config["settings"] = up_to_date(config.get("settings", {}))
        encoder_files = {path.name: path.read_text(encoding="utf-8") for path in encoder}
        weights = load_file(folder / "model.safetensors")
        tokenizer = tokenizer_of_folder(folder, config["lowercase"])
    except (ValueError, SafetensorError) as error:
        raise UserError(f"{folder} is damaged: {reason_of(error)}") from error
    expected = config["tokenizer_hash"]
    if tokenizer.hash != expected:
        raise UserError(
            f"{folder}/{' and '.join(tokenizer_files(folder))} (hash {tokenizer.hash}) are not the vocabulary the "
            f"model was trained with (hash {expected})"
        )
    description = Description(config["architecture"], encoder_files, config["settings"])
    model, image_processor = rebuild_model(folder, description, weights, tokenizer)
    model.encoder.attention = config.get("attention", {})
    return Captioner(model, tokenizer, image_processor, config)


def not_a_captioner(path: Path) -> str:
    return f"{path} is a classifier, which has labels for pictures and no captions; expected a captioner"


def captioner_from_checkpoint(checkpoint: dict, path: Path) -> Captioner:
    """Of what read_checkpoint() gives; path is for messages."""
    if "classifier" in checkpoint:
        raise UserError(not_a_captioner(path))
    if missing := [name for name in ("tokenizer", "architecture", "encoder_files") if name not in checkpoint]:
        raise UserError(f"{path} is a checkpoint, but of no captioner: it lacks {missing[0]}")
    try:
        tokenizer = tokenizer_from_dict(checkpoint["tokenizer"])
    except Exception as error:  # tokenizers raises bare Exceptions for merges that do not fit the vocabulary
        raise UserError(f"{path} is damaged: its vocabulary cannot be used ({reason_of(error)})") from error
    model, image_processor = rebuild_model(path, description_in(checkpoint), trained_weights(checkpoint), tokenizer)
    model.encoder.attention = checkpoint.get("attention", {})
    config = captioner_config(model, tokenizer, checkpoint["config"], checkpoint["epoch"])
    return Captioner(model, tokenizer, image_processor, config)


def checkpoint_parts(captioner: Captioner) -> dict[str, Any]:
    """What a checkpoint holds of it beside the weights."""
    return {
        "tokenizer": captioner.tokenizer.to_dict(),
        "architecture": captioner.model.architecture,
        "encoder_files": describe_encoder(captioner.model.encoder, captioner.image_processor),
        "attention": captioner.model.encoder.attention,
    }


def description_in(checkpoint: dict) -> Description:
    return Description(checkpoint["architecture"], checkpoint["encoder_files"], checkpoint["config"])


def trained_weights(checkpoint: dict) -> dict[str, torch.Tensor]:
    """The averaged ones, where training had an average."""
    return own_weights(checkpoint["model_state_dict"] | checkpoint["average"]["values"])
