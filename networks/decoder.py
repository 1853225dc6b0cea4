"""The door to decoders: what writes captions about image tokens, and what a search needs of it.

Shapes: U images, B captions, S image tokens, T caption tokens, C width of the decoder, V vocabulary.
"""

from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from basics.settings import Settings
from networks.parameters import ParameterGroup

Sizes = dict[str, int | float | str]


class Vocabulary(Protocol):
    """What a decoder needs of the tokens that it writes; tokenizer.Tokenizer has all of it."""

    start_id: int
    pad_id: int

    def __len__(self) -> int: ...

    def encode(self, caption: str) -> list[int]:
        """Ids of a caption, start and end included."""
        ...


class DecoderCache(Protocol):
    """What a decoder has read so far, for rows of captions that may be rearranged between two tokens."""

    length: int  # caption tokens read

    def select(self, rows: Tensor, images: Tensor | None = None) -> Self:
        """Captions go on from the given rows (B,), each a row of the same image; images (U,) are those that stay."""
        ...


C = TypeVar("C", bound=DecoderCache)  # what a decoder's own start() gives, and its decode() takes


class CaptionModel(Protocol[C]):
    """What search.generate() captions with: a model of one image encoding and many next tokens."""

    @property
    def max_seq_len(self) -> int:
        """Most tokens a caption can have, start and end included."""
        ...

    def start(self, image_tokens: Tensor, /) -> C:
        """Image tokens (U, S, C) -> the empty cache of captions over them, as many of each image as decode() gets."""
        ...

    def decode(self, tokens: Tensor, cache: C, /) -> tuple[Tensor, C]:
        """New tokens (B, T) of captions that lie side by side image by image -> logits (B, T, V), the longer cache."""
        ...


class PictureModel(CaptionModel[C], Protocol[C]):
    """An nn.Module that captions pictures: what makes image tokens of them is a part of it."""

    training: bool

    @property
    def device(self) -> torch.device: ...

    def encode(self, images: Tensor) -> Tensor:
        """Pixels (U, 3, H, W), or what the encoder made of them (U, S, E), -> image tokens (U, S, C)."""
        ...

    def train(self, mode: bool = True) -> Self: ...

    def eval(self) -> Self: ...


class Decoder(Protocol[C]):
    """An nn.Module that reads image tokens once and caption tokens one by one or whole; made by its registry line.

    A class of networks/decoders.py is called with its sizes without their prefix "decoder_": vocab_size, embed_dim (the
    width of the image tokens it reads), max_seq_len, pad_idx, and what else its own sizes() gives.
    """

    vocab_size: int
    max_seq_len: int  # most tokens of a caption, start and end included
    width: int  # C, of the image tokens it reads

    @classmethod
    def check(cls, settings: Settings) -> None:
        """Raises UserError for settings that it cannot have, before data are prepared."""
        ...

    @staticmethod
    def vocabulary(settings: Settings) -> Any:
        """The tokenizer.Tokenizer that it brings along; None: any will do, and one is trained on the captions."""
        ...

    @staticmethod
    def sizes(settings: Settings, vocabulary: Vocabulary) -> Sizes:
        """The sizes that the settings decide, by name; a checkpoint keeps them as its architecture."""
        ...

    def begin(self, settings: Settings, image_tokens: int, pretrained: bool) -> None:
        """Choose what trains, for pictures of so many tokens; pretrained: take the weights that it starts from, if any.

        Without it others are loaded after this. Raises UserError.
        """
        ...

    def start(self, image_tokens: Tensor, image_index: Tensor | None) -> C:
        """Image tokens (U, S, C) -> the empty cache; image_index (B,) names each caption's image.

        None: every image has the same number of captions, side by side.
        """
        ...

    def decode(self, tokens: Tensor, cache: C) -> tuple[Tensor, C]:
        """Tokens (B, T) after those in the cache -> logits (B, T, V) and the longer cache."""
        ...

    def teach(self, tokens: Tensor, mask: Tensor, cache: C) -> Tensor:
        """Whole captions (B, T) -> logits (N, V) of the N places where mask (B, T) holds, in their order."""
        ...

    def parameter_groups(self) -> list[ParameterGroup]:
        """Its trainable parameters, each once."""
        ...

    def parts_that_run_alone(self) -> list[nn.Module]:
        """Modules whose parameters are used in their own forward() alone, large ones, the inner ones first."""
        ...
