"""Several captioners that choose each token together; to all that use it, an ensemble is one captioner.

    captioner = load_captioners("checkpoints/a/best,checkpoints/b/best")     # or just one

Their log-probabilities of the next token are averaged. Seeds of one recipe will do, as each errs elsewhere. Members
share vocabulary and preprocessing; a picture is encoded once where their encoders are equal, as frozen ones are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from basics.errors import UserError
from captioner.folder import Captioner, ModelCaptioner, load_captioner
from captioner.places import members
from model import ImageToTextModel
from networks.decoder import DecoderCache
from networks.encoder import token_shape


@dataclass
class EnsembleCache:
    """The cache of each member."""

    parts: list[DecoderCache]

    def select(self, rows: Tensor, images: Tensor | None = None) -> "EnsembleCache":
        return EnsembleCache([part.select(rows, images) for part in self.parts])


class Ensemble(nn.Module):
    """Members in the place of one ImageToTextModel, for decoding only."""

    models: Sequence[ImageToTextModel]

    def __init__(self, models: list[ImageToTextModel]):
        super().__init__()
        together = nn.ModuleList(models)
        self.models = together  # type: ignore[assignment]  # ModuleList's annotations do not say what it holds
        for i, model in enumerate(models):
            model.encoder = next(m.encoder for m in models[: i + 1] if equal(m.encoder, model.encoder))
        self.widths = [model.decoder.width for model in models]
        self.max_seq_len = min(model.max_seq_len for model in models)

    @property
    def device(self) -> torch.device:
        return self.models[0].device

    def encode(self, images: Tensor) -> Tensor:
        """As ImageToTextModel.encode; the members' image tokens lie side by side in the last axis."""
        encoders = {model.encoder for model in self.models}
        features = {encoder: encoder(images) if images.ndim == 4 else images for encoder in encoders}
        return torch.cat([model.encode(features[model.encoder]) for model in self.models], dim=-1)

    def start(self, image_tokens: Tensor) -> EnsembleCache:
        parts = image_tokens.split(self.widths, dim=-1)
        return EnsembleCache([model.start(part) for model, part in zip(self.models, parts)])

    def decode(self, tokens: Tensor, cache: EnsembleCache) -> tuple[Tensor, EnsembleCache]:
        """The mean of the members' log-probabilities (B, T, V), which networks/search.py takes for logits."""
        found = [model.decode(tokens, part) for model, part in zip(self.models, cache.parts)]
        first, *others = [logits.float().log_softmax(-1) for logits, _ in found]
        return sum(others, first) / len(found), EnsembleCache([part for _, part in found])


class EnsembleCaptioner(ModelCaptioner[Ensemble]):
    """Several captioners as one."""


def equal(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def load_captioners(name: str | Path, device: str | torch.device = "cpu") -> Captioner | EnsembleCaptioner:
    """One captioner, or an ensemble with the settings of its first. Raises UserError."""
    names = members(name)
    captioners = [load_captioner(member, device) for member in names]
    if len(names) == 1:
        return captioners[0]
    check_members(captioners, names)
    model, first = Ensemble([captioner.model for captioner in captioners]).eval(), captioners[0]
    return EnsembleCaptioner(model, first.tokenizer, first.image_processor, first.config)


def check_members(captioners: list[Captioner], names: list[str]) -> None:
    """Raises UserError for the first that does not go with the first."""
    first, counts = captioners[0], [token_shape(each.model.encoder, each.image_processor)[0] for each in captioners]
    for captioner, name, count in zip(captioners[1:], names[1:], counts[1:]):
        if captioner.tokenizer.hash != first.tokenizer.hash:
            reason = f"its vocabulary has hash {captioner.tokenizer.hash}, not {first.tokenizer.hash}"
        elif captioner.image_processor.to_dict() != first.image_processor.to_dict():
            reason = "it prepares pictures in another way"
        elif count != counts[0]:
            reason = f"it has {count} image tokens, not {counts[0]}"
        else:
            continue
        raise UserError(f"{name} cannot caption together with {names[0]}: {reason}")
