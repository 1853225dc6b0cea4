"""A language model's parts of an export: what it keeps of picture and prompt takes the place of cross-attention's.

    modules = language_model_parts(captioner.model, captioner.model.decoder)    # as publishing/export_parts.py has them

U pictures, K captions of each, T tokens so far; H heads with keys of their own, S tokens of picture and prompt, D head
width, V vocabulary.
"""

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from basics.errors import UserError
from model import ImageToTextModel
from networks.language_model import LanguageCache, LanguageModelDecoder


class PicturePart(nn.Module):
    """Pixels (U, 3, height, width) -> keys and values of picture and prompt in each layer, (U, H, S, D)."""

    def __init__(self, model: ImageToTextModel, decoder: LanguageModelDecoder):
        super().__init__()
        self.encoder, self.projection, self.decoder = model.encoder, model.projection, decoder

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return keys_values(self.decoder.start(self.projection(self.encoder(pixels)), None))


class CaptionPart(nn.Module):
    """One token (U, K) of each caption -> logits (U, K, V), then the longer own keys and values, (U, K, H, T, D)."""

    def __init__(self, decoder: LanguageModelDecoder):
        super().__init__()
        self.decoder = decoder

    def read(self, tokens: Tensor, cross: list[Tensor], own: list[Tensor], length: int) -> list[Tensor]:
        """own: what was read of the captions, a tensor for each of cross, or nothing; length: how many tokens."""
        (U, K), S = tokens.shape, cross[0].shape[2]
        # each caption has its picture's; of repeat_interleave() onnxruntime makes nothing for one caption
        before = [tensor[:, None].expand(-1, K, -1, -1, -1).flatten(0, 1) for tensor in cross]
        if own:
            before = [torch.cat([one, other.flatten(0, 1)], dim=2) for one, other in zip(before, own)]
        past = DynamicCache(list(zip(before[::2], before[1::2])), config=self.decoder.lm.config)
        cache = LanguageCache(past, torch.arange(U * K), length)
        logits, longer = self.decoder.decode(tokens.reshape(U * K, 1), cache)
        longer_own = [tensor[:, :, S:] for tensor in keys_values(longer)]
        return [tensor.unflatten(0, (U, K)) for tensor in (logits[:, 0], *longer_own)]


class FirstPart(CaptionPart):
    """The first token of each caption, in whose place the decoder reads the last one of the prompt."""

    def forward(self, tokens: Tensor, cross: list[Tensor]) -> list[Tensor]:
        return self.read(tokens, cross, [], 0)


class NextPart(CaptionPart):
    """One more token of each caption, after own keys and values (U, K, H, T, D)."""

    def forward(self, tokens: Tensor, cross: list[Tensor], own: list[Tensor]) -> list[Tensor]:
        return self.read(tokens, cross, own, own[0].shape[3])


def keys_values(cache: LanguageCache) -> list[Tensor]:
    return [tensor for layer in cache.past.layers for tensor in (layer.keys, layer.values)]


def language_model_parts(model: ImageToTextModel, decoder: LanguageModelDecoder) -> dict[str, nn.Module]:
    check_kept(decoder)
    return {"encoder": PicturePart(model, decoder), "prefill": FirstPart(decoder), "step": NextPart(decoder)}


@torch.no_grad()
def check_kept(decoder: LanguageModelDecoder) -> None:
    """Raises UserError unless keys and values of every token in every layer are all that it keeps of a picture."""
    cache: object = decoder.start(torch.zeros(1, 1, decoder.width), None)
    past = getattr(cache, "past", None)
    kept = {type(each) for each in (cache, past, *getattr(past, "layers", []))}
    if others := kept - {LanguageCache, DynamicCache, DynamicLayer}:
        raise UserError(
            f"a language model ({decoder.lm.config.model_type}) that keeps a {min(kind.__name__ for kind in others)} "
            "of what it reads cannot be exported; expected one that reads pictures as words and keeps keys and values "
            "of all of them in every layer, such as GPT-2, Llama or Falcon"
        )
