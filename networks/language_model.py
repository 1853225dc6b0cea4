"""A causal language model of transformers as decoder: image tokens go in before the caption, as if they were words.

Shapes: U images, B captions (several may belong to one image), S image tokens, P of them in the prefix, T caption
tokens, C width of the model's embeddings, V vocabulary.

The model reads the prefix (the projected image tokens, averaged to PREFIX_TOKENS), its token for the start, the prompt,
then the caption: as BLIP-2 does with OPT (Li et al. 2023, arXiv 2301.12597). `start()` reads prefix and prompt once an
image; its keys and values are copied to the captions of an image. A family that needs more is a subclass in a file of
its own, and a line in networks/decoders.py.
"""

import copy
import json
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.initialization import no_init_weights

from basics.errors import UserError, first_line, reason_of
from basics.settings import Settings
from basics.stored import Number, check, numbers_in, parse_json
from networks.adapters import adapter_targets, add_adapters, merge_adapters
from networks.decoder import Sizes, Vocabulary
from networks.encoder import quiet_transformers, set_mode
from networks.language_tokenizer import LanguageTokenizer, load_language_tokenizer
from networks.parameters import ParameterGroup, train_last_blocks

EXPECTED = "expected a Hub id that can be reached, or a folder of a causal language model (--decoder-model-name)"
LARGEST_NUMBER = 2**24  # in a stored config.json: more than any size, number of layers or token id
FORGOTTEN = ("_name_or_path", "architectures", "auto_map", "task_specific_params")  # say nothing of the model's shape


@dataclass
class LanguageCache:
    """What the model has read: past is transformers' cache of U images before the first token, of B captions after."""

    past: Any
    image_index: Tensor
    length: int = 0

    def select(self, rows: Tensor, images: Tensor | None = None) -> "LanguageCache":
        """Captions go on from the given rows (B,), each a row of the same image; images (U,) are those that stay."""
        if self.length:
            return LanguageCache(rows_of_cache(self.past, rows), self.image_index, self.length)
        index = self.image_index if images is None else torch.arange(len(images), device=images.device)
        return LanguageCache(rows_of_cache(self.past, images), index)


def rows_of_cache(past: Any, rows: Tensor | None) -> Any:
    """A copy of transformers' cache that can grow by itself, of the given rows."""
    chosen = copy.copy(past)
    chosen.layers = [copy.copy(layer) for layer in past.layers]  # layers replace their tensors, they do not change them
    if rows is not None:
        chosen.batch_select_indices(rows)
    return chosen


class LanguageModelDecoder(nn.Module):
    """A decoder.Decoder around any model of AutoModelForCausalLM.

    config is its config.json as text, lead the tokens between prefix and caption, the one for the start first, in
    decimal, parted by spaces; prefix_tokens 0: all image tokens. lora_rank 0: no adapters.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        embed_dim: int,
        max_seq_len: int,
        pad_idx: int,
        config: str,
        lead: str,
        prefix_tokens: int = 0,
        lora_rank: int = 0,
        lora_alpha: int = 1,
        lora_targets: str = "",
    ):
        super().__init__()
        self.vocab_size, self.width, self.max_seq_len = vocab_size, embed_dim, max_seq_len
        self.prefix_tokens = prefix_tokens
        self.lead = [int(token) for token in lead.split()]
        self.adapters = (lora_rank, lora_alpha, lora_targets)
        self.take(make_language_model(config))
        rows, width = self.lm.get_input_embeddings().weight.shape
        if not self.lead or (width, max(vocab_size, 1 + max(self.lead))) != (embed_dim, vocab_size):
            raise ValueError(
                f"decoder_embed_dim is {embed_dim}, of a language model with {width}, or its lead is {lead!r}"
            )
        if vocab_size > rows:
            raise ValueError(f"a vocabulary of {vocab_size:,} tokens, for a language model with {rows:,}")
        self.register_state_dict_post_hook(forget_tied)
        self.register_load_state_dict_pre_hook(recall_tied)

    def take(self, lm: nn.Module) -> None:
        """Make it the language model here, with adapters."""
        self.lm: Any = lm
        if self.adapters[0]:
            add_adapters(lm, *self.adapters)

    @staticmethod
    def vocabulary(settings: Settings) -> LanguageTokenizer:
        return load_language_tokenizer(settings)

    @classmethod
    def check(cls, settings: Settings) -> None:
        """What would go wrong later, built without memory. Raises UserError."""
        read_language_config(settings.DECODER_MODEL_NAME)  # what is no language model may have no tokenizer either
        vocabulary = cls.vocabulary(settings)
        with torch.device("meta"):
            sizes = cls.sizes(settings, vocabulary)
            rows = make_language_model(str(sizes["config"])).get_input_embeddings().weight.shape[0]
            if rows < len(vocabulary):
                raise UserError(
                    f"the tokenizer of {settings.DECODER_MODEL_NAME!r} has {len(vocabulary):,} tokens, its model "
                    f"{rows:,}; expected both of one model"
                )
            sizes |= {"vocab_size": len(vocabulary), "max_seq_len": settings.MAX_SEQ_LEN, "pad_idx": vocabulary.pad_id}
            cls(**sizes).choose_trained(settings)  # type: ignore[arg-type]  # sizes() gives what it takes

    @staticmethod
    def sizes(settings: Settings, vocabulary: Vocabulary) -> Sizes:
        config, name = read_language_config(settings.DECODER_MODEL_NAME), settings.DECODER_MODEL_NAME
        with torch.device("meta"):
            lm = make_language_model(config)
        lead = [vocabulary.start_id, *vocabulary.encode(settings.PROMPT)[1:-1]]
        return {
            "embed_dim": lm.get_input_embeddings().weight.shape[1],
            "config": config,
            "lead": " ".join(map(str, lead)),
            "prefix_tokens": settings.PREFIX_TOKENS or 0,
            "lora_rank": settings.LORA_RANK,
            "lora_alpha": settings.LORA_ALPHA,
            "lora_targets": adapter_targets(lm, name, settings.LORA_TARGETS) if settings.LORA_RANK else "",
        }

    def begin(self, settings: Settings, image_tokens: int, pretrained: bool) -> None:
        """Its weights unless others follow, and which of them train. Raises UserError."""
        self.check_room(image_tokens)
        if pretrained:
            del self.lm  # before the other one takes memory
            self.take(load_language_model(settings.DECODER_MODEL_NAME))
        self.choose_trained(settings)
        if settings.DECODER_FROZEN_PRECISION == "bf16":
            for parameter in self.lm.parameters():
                if parameter.ndim > 1 and not parameter.requires_grad:
                    parameter.data = parameter.data.bfloat16()

    def check_room(self, image_tokens: int) -> None:
        """Raises UserError where a picture and a caption are longer than what the model has positions for."""
        room = getattr(self.lm.config, "max_position_embeddings", None)
        prefix = min(self.prefix_tokens or image_tokens, image_tokens)
        needed = prefix + len(self.lead) - 1 + self.max_seq_len
        if room and needed > room:
            raise UserError(
                f"{prefix} image tokens, the prompt and MAX_SEQ_LEN {self.max_seq_len} take {needed} positions, the "
                f"language model has {room}; lower PREFIX_TOKENS or MAX_SEQ_LEN"
            )

    def merge(self) -> None:
        """Put what the adapters learned into the weights beside them, and do without."""
        merge_adapters(self.lm)
        self.adapters = (0, 0, "")

    def choose_trained(self, settings: Settings) -> None:
        """DECODER_TRAINABLE of the model; with adapters those alone."""
        if not self.adapters[0]:
            train_last_blocks(self.lm, settings.DECODER_TRAINABLE, "DECODER_TRAINABLE", "language model")
            return
        for name, parameter in self.lm.named_parameters():
            parameter.requires_grad_("lora_" in name)

    def train(self, mode: bool = True) -> "LanguageModelDecoder":
        """What is frozen stays in eval mode, so its dropout is off."""
        set_mode(self, mode)
        return self

    def embed(self, tokens: Tensor) -> Tensor:
        return self.lm.get_input_embeddings()(tokens).float()  # frozen ones may be kept in 16 bits

    def start(self, image_tokens: Tensor, image_index: Tensor | None) -> LanguageCache:
        """Image tokens (U, S, C) through the model, with all of the lead but its last token."""
        from transformers import DynamicCache  # only here: most captioners need none

        U, S, _ = image_tokens.shape
        prefix = image_tokens
        if 0 < self.prefix_tokens < S:
            prefix = F.adaptive_avg_pool1d(image_tokens.transpose(1, 2), self.prefix_tokens).transpose(
                1, 2
            )  # (U, P, C)
        lead = torch.tensor(self.lead[:-1], dtype=torch.long, device=prefix.device).expand(U, -1)
        past = DynamicCache(config=self.lm.config)
        inputs = torch.cat([prefix, self.embed(lead)], dim=1)
        self.lm.base_model(inputs_embeds=inputs, cache=past, use_cache=True)
        return LanguageCache(past, torch.arange(U, device=prefix.device) if image_index is None else image_index)

    def read(self, tokens: Tensor, cache: LanguageCache, **kept: Tensor) -> tuple[Tensor, LanguageCache]:
        """Tokens (B, T) after those in the cache -> logits of all places, or of those kept, and the longer cache.

        What comes before a caption ends with the last token of the lead, whatever its first token is.
        """
        (B, T), rows = tokens.shape, None
        assert cache.length + T <= self.max_seq_len, f"{cache.length + T} tokens, at most {self.max_seq_len}"
        if cache.length == 0:
            tokens = torch.cat([torch.full_like(tokens[:, :1], self.lead[-1]), tokens[:, 1:]], dim=1)
            rows = cache.image_index.repeat_interleave(B // len(cache.image_index))
        past = rows_of_cache(cache.past, rows)
        found = self.lm(inputs_embeds=self.embed(tokens), cache=past, use_cache=True, **kept)
        return found.logits[..., : self.vocab_size], LanguageCache(past, cache.image_index, cache.length + T)

    def decode(self, tokens: Tensor, cache: LanguageCache) -> tuple[Tensor, LanguageCache]:
        return self.read(tokens, cache)

    def teach(self, tokens: Tensor, mask: Tensor, cache: LanguageCache) -> Tensor:
        """Whole captions (B, T) -> logits (N, V) of the N places where mask (B, T) holds, in their order."""
        return self.read(tokens, cache, logits_to_keep=mask)[0]

    def parameter_groups(self) -> list[ParameterGroup]:
        """Matrices are decayed, but not those that embed tokens or positions."""
        embeddings = {
            id(p) for module in self.modules() if isinstance(module, nn.Embedding) for p in module.parameters()
        }
        groups = [ParameterGroup("decoder", decayed, []) for decayed in (False, True)]
        for parameter in self.parameters():
            if parameter.requires_grad:
                groups[parameter.ndim >= 2 and id(parameter) not in embeddings].parameters.append(parameter)
        return groups


def tied(module: nn.Module) -> dict[str, str]:
    """Parameters that are another one under a second name -> their first name."""
    first: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        first.setdefault(id(parameter), name)
    names = module.named_parameters(remove_duplicate=False)
    return {name: first[id(parameter)] for name, parameter in names if first[id(parameter)] != name}


def forget_tied(module: nn.Module, state: dict, prefix: str, _: object) -> None:
    """What is stored has each tensor once, as safetensors demands."""
    for name in tied(module):
        state.pop(prefix + name, None)


def recall_tied(module: nn.Module, state: dict, prefix: str, *_: object) -> None:
    for name, first in tied(module).items():
        if prefix + first in state:
            state[prefix + name] = state[prefix + first]


def make_language_model(config: str) -> Any:
    """The model that a config.json describes, its weights still to be loaded.

    Raises ValueError and what transformers raises.
    """
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM  # only here: most captioners need none

    values = parse_json(config, "decoder_config")
    check(values, {"model_type": str}, "decoder_config")
    check_whole_numbers(values)
    if values["model_type"] not in CONFIG_MAPPING:
        raise ValueError(f"transformers knows no {values['model_type']}")
    with quiet_transformers(), no_init_weights():
        made = CONFIG_MAPPING[values["model_type"]].from_dict(values)
        lm = AutoModelForCausalLM.from_config(made, dtype=torch.float32, trust_remote_code=False)
        lm.tie_weights()  # which it forgets where weights are not drawn
    return lm


def check_whole_numbers(value: Any) -> None:
    """Raises ValueError for numbers that no model has: they would become memory before anything is compared."""
    for place, number in numbers_in(value, "decoder_config"):
        if isinstance(number, int):
            check(number, Number(int, -LARGEST_NUMBER, LARGEST_NUMBER), place)


def read_language_config(name: str) -> str:
    """config.json of a causal language model, without what says nothing of its shape. Raises UserError."""
    from transformers import AutoConfig, DynamicCache  # as above
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # a wrong folder or file fails in as many ways as there are models
        raise UserError(f"cannot load the language model {name!r}: {first_line(error)} {EXPECTED}") from error
    layers = DynamicCache(config=config).layers
    if not all(hasattr(layer, "batch_select_indices") for layer in layers):
        raise UserError(f"{name!r} is a {config.model_type}, which keeps no keys and values of each token; {EXPECTED}")
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    masked = any(each.endswith("ForMaskedLM") for each in config.architectures or [])
    if not known or masked or getattr(config, "is_encoder_decoder", False):
        raise UserError(f"{name!r} is no causal language model but {config.model_type}; {EXPECTED}")
    values = {key: value for key, value in config.to_diff_dict().items() if key not in FORGOTTEN}
    return json.dumps(values, sort_keys=True)


def load_language_model(name: str) -> Any:
    """The model with its weights, in float32. Raises UserError."""
    from transformers import AutoModelForCausalLM  # as above

    try:
        with quiet_transformers():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                name, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
            )
            lm, report = loaded
    except Exception as error:  # as above
        raise UserError(f"cannot load the language model {name!r}: {reason_of(error)} {EXPECTED}") from error
    if missing := sorted(report["missing_keys"]):
        raise UserError(
            f"the weights of the language model {name!r} lack {len(missing)} tensors, {missing[0]} first: "
            "the file does not belong to its config.json"
        )
    if sees_ahead(lm):
        raise UserError(f"{name!r} is no causal language model: its tokens see those after them; {EXPECTED}")
    return lm


@torch.no_grad()
def sees_ahead(lm: Any) -> bool:
    """Whether the first token's prediction changes with the second token."""
    lm.eval()
    one, other = [lm(input_ids=torch.tensor([[0, token]]), use_cache=False).logits[0, 0] for token in (1, 2)]
    return not torch.allclose(one, other, atol=1e-4)
