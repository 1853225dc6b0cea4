"""What can be compared, as one thing: a captioner of train.py, several together, or a folder of GIT, a teacher.

captioner = load_any("checkpoints/student/best", device)        # a checkpoint file, a Hub id, an ensemble a,b
captioner.caption_images(images, DecodingOptions(captioner.max_seq_len, captioner.settings.BEAM_SIZE))
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from basics.devices import pick_precision
from basics.errors import UserError
from basics.settings import Settings, constants
from captioner.ensemble import load_captioners
from captioner.places import locate, model_type
from networks.caption import Captioned
from networks.decoding_options import DecodingOptions
from networks.encoder import ImageProcessor, prepare_pixels
from networks.parameters import count_parameters


@dataclass(frozen=True)
class AnyCaptioner:
    """A captioner in eval mode on its device, with what scoring needs to know of it."""

    path: str
    model: nn.Module
    device: torch.device
    parameters: int
    image_processor: ImageProcessor
    caption_pixels: Callable[[Tensor, DecodingOptions], list[list[Captioned]]]  # as Captioner.caption_pixels
    max_seq_len: int
    settings: Settings  # for BEAM_SIZE, LENGTH_PENALTY and PRECISION
    data: Path | None  # what it was trained on; None where it does not say

    def caption_images(self, images: Iterable[Image.Image], options: DecodingOptions) -> list[list[Captioned]]:
        """RGB pictures -> for each its captions, best first."""
        return self.caption_pixels(prepare_pixels(self.image_processor, images), options)


def load_any(path: str, device: torch.device) -> AnyCaptioner:
    """A best/ or GIT folder, a checkpoint file, a Hub id, an ensemble. Raises UserError."""
    folder = git_folder(path)
    return load_git_captioner(path, folder, device) if folder else load_trained(path, device)


def load_trained(path: str, device: torch.device) -> AnyCaptioner:
    """What train.py made, one or an ensemble, with its own settings. Raises UserError."""
    captioner = load_captioners(path, device)
    parameters = count_parameters(captioner.model)
    captioner.make_fast(pick_precision(captioner.settings, device))
    return AnyCaptioner(
        path,
        captioner.model,
        captioner.device,
        parameters,
        captioner.image_processor,
        captioner.caption_pixels,
        max_seq_len=captioner.model.max_seq_len,
        settings=captioner.settings,
        data=captioner.settings.data_path,
    )


def git_folder(path: str) -> Path | None:
    """Where GIT lies; None where the path names something else."""
    try:
        folder = locate(path)
    except UserError:  # what is wrong with it, load_captioners says
        return None
    return folder if model_type(folder) == "git" else None


def load_git_captioner(path: str, folder: Path, device: torch.device) -> AnyCaptioner:
    """GIT, which knows no settings of ours: it captions as config.py says, or as the captioner beside it does."""
    from networks.git import load_git  # GIT takes its time to import

    parts, settings = load_git(folder, device), constants()
    return AnyCaptioner(
        path,
        parts.model,
        parts.model.device,
        count_parameters(parts.model),
        parts.image_processor,
        parts.caption_pixels,
        max_seq_len=min(parts.model.config.max_position_embeddings, settings.MAX_SEQ_LEN),
        settings=settings,
        data=None,
    )
