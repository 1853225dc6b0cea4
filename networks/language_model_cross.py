"""A causal language model that looks at the image tokens through cross-attention, a new layer in each of its blocks.

For models that transformers can add it to (GPT-2 and few others); DECODER "language_model_cross" chooses it. The text
is the prompt and the caption alone, so a picture takes no position. The new layers start as drawn, always train, and
get no adapters. As in VisionEncoderDecoderModel of transformers and, without its gates, Flamingo (Alayrac et al. 2022,
arXiv 2204.14198).
"""

import json
from collections.abc import Set
from typing import Any

import torch
from torch import Tensor

from basics.errors import UserError
from basics.settings import Settings
from networks.causal_lm import load_language_model, make_language_model, read_language_config
from networks.language_model import LanguageCache, LanguageModelDecoder


class CrossLanguageModelDecoder(LanguageModelDecoder):
    """A decoder.Decoder around a model of AutoModelForCausalLM with add_cross_attention."""

    @staticmethod
    def describe(settings: Settings) -> str:
        name = settings.DECODER_MODEL_NAME
        config = json.dumps({**json.loads(read_language_config(name)), "add_cross_attention": True}, sort_keys=True)
        with torch.device("meta"):
            lm = make_language_model(config)
        if not cross_attention_of(lm):
            raise UserError(
                f"{name!r} is a {lm.config.model_type}, to which no cross-attention can be added; expected one like "
                'GPT-2, or DECODER "language_model", which reads pictures before the text'
            )
        return config

    @staticmethod
    def new_layers(lm: Any) -> Set[str]:
        return cross_attention_of(lm)

    @staticmethod
    def load(name: str, new: Set[str]) -> Any:
        return load_language_model(name, new, add_cross_attention=True)

    def positions(self, image_tokens: int) -> int:
        return 0

    def new_cache(self) -> Any:
        from transformers import DynamicCache, EncoderDecoderCache  # only here: most captioners need none

        return EncoderDecoderCache(*(DynamicCache(config=self.lm.config) for _ in range(2)))

    def start(self, image_tokens: Tensor, image_index: Tensor | None) -> LanguageCache:
        """The lead but its last token through the model, which looks at image tokens (U, S, C)."""
        seen = {"encoder_hidden_states": self.shortened(image_tokens)}
        return self.read_before(self.embedded_lead(len(image_tokens)), image_index, seen)


def cross_attention_of(lm: Any) -> Set[str]:
    """Names of the parameters that the model has for cross-attention alone."""
    values = {**lm.config.to_dict(), "add_cross_attention": False}
    with torch.device("meta"):
        without = make_language_model(json.dumps(values))
    return {name for name, _ in lm.named_parameters()} - {name for name, _ in without.named_parameters()}
