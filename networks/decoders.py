"""The decoders there are, by their name in DECODER: a new one is a file with a decoder.Decoder, and a line."""

from typing import Any

from basics.errors import UserError
from networks.decoder import Decoder
from networks.language_model import LanguageModelDecoder
from networks.language_model_cross import CrossLanguageModelDecoder
from networks.transformer_decoder import TransformerDecoder

DECODERS: dict[str, type[Decoder[Any]]] = {
    "transformer": TransformerDecoder,
    "language_model": LanguageModelDecoder,
    "language_model_cross": CrossLanguageModelDecoder,
}


def find_decoder(name: str) -> type[Decoder[Any]]:
    """Raises UserError for a name that none has."""
    if name not in DECODERS:
        raise UserError(f"DECODER must be one of {', '.join(map(repr, DECODERS))}, got {name!r}")
    return DECODERS[name]
