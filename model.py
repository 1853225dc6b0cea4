"""ImageToTextModel: a vision encoder, a projection of its tokens, and a decoder.

    model = make_model(encoder, image_processor, tokenizer, settings)
    logits = model(images, tokens, image_index)         # teacher forcing, (B, T, V)
    cache = model.start(model.encode(images))           # and one token after the other
    logits, cache = model.decode(tokens, cache)

Shapes: U images, B captions (several may belong to one image), S image tokens, E encoder width, T caption tokens,
C decoder width, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn

from basics.settings import Settings
from networks.decoder import Decoder, DecoderCache
from networks.decoders import find_decoder
from networks.encoder import ImageProcessor, VisionEncoder, token_shape
from networks.parameters import ParameterGroup, TrainableModel, blocks_of, merged, parameter_groups
from tokenizer import Tokenizer


class ImageToTextModel(TrainableModel):
    """Encoder -> projection -> decoder; `architecture` holds the arguments it was made with.

    encoder makes (U, S, encoder_embed_dim) of (U, 3, H, W), decoder is a name of networks/decoders.py,
    decoder_sizes its sizes, each with the prefix "decoder_".
    """

    encoder: VisionEncoder
    projection: nn.Sequential
    decoder: Decoder[Any]
    training_only: nn.ModuleDict
    entries = ("encode", "start", "decode")

    def __init__(
        self,
        encoder: VisionEncoder,
        encoder_embed_dim: int,
        *,
        decoder: str = "transformer",
        decoder_embed_dim: int,
        **decoder_sizes: int | float | str,
    ):
        super().__init__()
        sizes: dict[str, Any] = {"decoder_embed_dim": decoder_embed_dim, **decoder_sizes}
        self.architecture = {"encoder_embed_dim": encoder_embed_dim, "decoder": decoder, **sizes}
        self.encoder = encoder
        # the norm first: the scale of the last feature map differs a hundredfold between encoders
        self.projection = nn.Sequential(
            nn.LayerNorm(encoder_embed_dim), nn.Linear(encoder_embed_dim, decoder_embed_dim)
        )
        self.decoder = find_decoder(decoder)(**{n.removeprefix("decoder_"): value for n, value in sizes.items()})
        self.training_only = nn.ModuleDict()  # what a loss trains beside the captioner; never saved as a part of it

    @property
    def device(self) -> torch.device:
        return next(self.projection.parameters()).device

    @property
    def max_seq_len(self) -> int:
        """Most tokens a caption can have, <s> and </s> included."""
        return self.decoder.max_seq_len

    def encode(self, images: Tensor) -> Tensor:
        """Pixels (U, 3, H, W), or what the encoder made of them (U, S, E), -> image tokens (U, S, C)."""
        return self.projection(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Of pixels, or of what is encoded already, (U, S, E)."""
        return self.encoder(images) if images.ndim == 4 else images.to(next(self.projection.parameters()).dtype)

    def start(self, image_tokens: Tensor, image_index: Tensor | None = None) -> DecoderCache:
        """The empty cache of captions over image tokens (U, S, C); image_index (B,) names each caption's image.

        None: every image has the same number of captions, side by side.
        """
        return self.decoder.start(image_tokens, image_index)

    def decode(self, tokens: Tensor, cache: DecoderCache) -> tuple[Tensor, DecoderCache]:
        return self.decoder.decode(tokens, cache)

    def forward(
        self,
        images: Tensor,
        decoder_input_tokens: Tensor,
        image_index: Tensor | None = None,
        target_mask: Tensor | None = None,
    ) -> Tensor:
        """Teacher forcing: images as in encode(), tokens (B, T), image_index as in start() -> logits (B, T, V).

        target_mask (B, T), true for the first tokens of each caption: logits only there, (N, V), which is faster.
        """
        cache = self.decoder.start(self.projection(self.features(images)), image_index)  # FSDP nests no entries
        if target_mask is None:
            return self.decoder.decode(decoder_input_tokens, cache)[0]
        return self.decoder.teach(decoder_input_tokens, target_mask, cache)

    def parameter_groups(self) -> list[ParameterGroup]:
        """All that trains, each parameter once: the encoder, and the decoder with the projection before it."""
        before, beside = (parameter_groups("decoder", part) for part in (self.projection, self.training_only))
        return merged([*before, *self.decoder.parameter_groups(), *beside, *parameter_groups("encoder", self.encoder)])

    def parts_that_run_alone(self) -> list[nn.Module]:
        return [*blocks_of(self.encoder), *self.decoder.parts_that_run_alone(), *self.training_only.values()]

    @classmethod
    def from_pretrained(cls, path_or_repo_id: str) -> "ImageToTextModel":
        """The model of a best/ folder, a checkpoint_*.pt file or a Hub repository, in eval mode. Raises UserError."""
        from captioner.folder import load_captioner  # the one import upward: people look for this method here

        return load_captioner(path_or_repo_id).model


def make_model(
    encoder: VisionEncoder,
    image_processor: ImageProcessor,
    tokenizer: Tokenizer,
    settings: Settings,
    architecture: dict[str, Any] | None = None,
) -> ImageToTextModel:
    """A fresh decoder of DECODER over the encoder, as the settings have it. Raises UserError.

    architecture: that of a model whose weights will be loaded into this one.
    """
    image_tokens, width = token_shape(encoder, image_processor)
    model = ImageToTextModel(encoder, **(architecture or new_architecture(width, tokenizer, settings)))
    model.decoder.begin(settings, image_tokens, pretrained=architecture is None)
    return model


def new_architecture(encoder_embed_dim: int, tokenizer: Tokenizer, settings: Settings) -> dict[str, Any]:
    sizes = find_decoder(settings.DECODER).sizes(settings, tokenizer)
    return {
        "encoder_embed_dim": encoder_embed_dim,
        "decoder": settings.DECODER,
        "decoder_vocab_size": len(tokenizer),
        "decoder_max_seq_len": settings.MAX_SEQ_LEN,
        "decoder_pad_idx": tokenizer.pad_id,
        **{f"decoder_{name}": value for name, value in sizes.items()},
    }
