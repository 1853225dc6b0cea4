"""A causal language model of transformers as decoder: image tokens go in before the caption, as if they were words.

Shapes: U images, B captions (several may belong to one image), S image tokens, P of them in the prefix, T caption
tokens, C width of the model's embeddings, V vocabulary.

The model reads the prefix (the projected image tokens, averaged to PREFIX_TOKENS), its token for the start, the prompt,
then the caption: as BLIP-2 does with OPT (Li et al. 2023, arXiv 2301.12597). `start()` reads prefix and prompt once an
image; its keys and values are copied to the captions of an image. A family that needs more is a subclass in a file of
its own, and a line in networks/decoders.py; language_model_cross.py is one.
"""

import copy
from collections.abc import Set
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from basics.devices import pick_device
from basics.disk import size
from basics.errors import UserError
from basics.memory import machine_memory
from basics.settings import Settings
from networks.adapters import adapter_targets, add_adapters, merge_adapters
from networks.causal_lm import load_language_model, make_language_model, read_language_config
from networks.decoder import Sizes, Vocabulary
from networks.encoder import set_mode
from networks.language_tokenizer import LanguageTokenizer, load_language_tokenizer
from networks.parameters import ParameterGroup, blocks_of, train_last_blocks

WEIGHT, TRAINED = 4, 12  # bytes of a parameter in memory, and of its gradient and two moments beside it


@dataclass
class LanguageCache:
    """What the model has read: past is transformers' cache of U images before the first token, of B captions after.

    unread (U, P, C) is what comes before the captions where no cache is kept: layers that compute twice fill none.
    beside is what the model is given with every token, (U, ...) each.
    """

    past: Any
    image_index: Tensor
    length: int = 0
    unread: Tensor | None = None
    beside: dict[str, Tensor] = field(default_factory=dict)

    def select(self, rows: Tensor, images: Tensor | None = None) -> "LanguageCache":
        """Captions go on from the given rows (B,), each a row of the same image; images (U,) are those that stay."""
        past = rows_of_cache(self.past, rows if self.length else images)
        if self.length or images is None:
            return replace(self, past=past)
        beside = {name: each[images] for name, each in self.beside.items()}
        return replace(self, past=past, image_index=torch.arange(len(images), device=images.device), beside=beside)


def rows_of_cache(past: Any, rows: Tensor | None) -> Any:
    """A copy of transformers' cache that can grow by itself, of the given rows."""
    if hasattr(past, "cross_attention_cache"):
        both = past.self_attention_cache, past.cross_attention_cache
        return type(past)(*(rows_of_cache(each, rows) for each in both))
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
        self.gradient_checkpointing = False  # whether blocks are computed a second time backwards
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
        self.new = self.new_layers(lm)
        if self.adapters[0]:
            add_adapters(lm, *self.adapters, without=self.new)

    @staticmethod
    def describe(settings: Settings) -> str:
        """config.json of DECODER_MODEL_NAME as it is used here. Raises UserError."""
        return read_language_config(settings.DECODER_MODEL_NAME)

    @staticmethod
    def new_layers(lm: Any) -> Set[str]:
        """Names of parameters that the pretrained model has not: they always train."""
        return frozenset()

    @staticmethod
    def load(name: str, new: Set[str]) -> Any:
        """The model with its weights, but for those of new layers. Raises UserError."""
        return load_language_model(name)

    @staticmethod
    def vocabulary(settings: Settings) -> LanguageTokenizer:
        return load_language_tokenizer(settings)

    @classmethod
    def check(cls, settings: Settings) -> None:
        """What would go wrong later, built without memory. Raises UserError."""
        cls.describe(settings)  # what is no language model may have no tokenizer either
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
            decoder = cls(**sizes)  # type: ignore[arg-type]  # sizes() gives what it takes
            decoder.choose_trained(settings)
        decoder.check_memory(settings.DECODER_MODEL_NAME, pick_device(settings.DEVICE))

    def check_memory(self, name: str, device: torch.device) -> None:
        """Raises UserError for what this machine could not load, or on its CPU not train."""
        trained = TRAINED if device.type == "cpu" else 0
        needed = sum(p.numel() * (WEIGHT + trained * p.requires_grad) for p in self.parameters())
        memory = machine_memory()
        if memory is not None and needed > memory:
            raise UserError(
                f"{name!r} has {sum(p.numel() for p in self.parameters()) / 1e9:,.1f} billion parameters, which take "
                f"{size(needed)}, on a CPU with gradients and moments of those that train; this machine has "
                f"{size(memory)}; take a smaller model, or train less of it (DECODER_TRAINABLE, LORA_RANK)"
            )

    @classmethod
    def sizes(cls, settings: Settings, vocabulary: Vocabulary) -> Sizes:
        config, name = cls.describe(settings), settings.DECODER_MODEL_NAME
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
            self.take(self.load(settings.DECODER_MODEL_NAME, self.new))
        self.choose_trained(settings)
        if settings.GRADIENT_CHECKPOINTING:
            self.compute_twice(settings.DECODER_MODEL_NAME)
        if settings.DECODER_FROZEN_PRECISION == "bf16":
            for parameter in self.lm.parameters():
                if parameter.ndim > 1 and not parameter.requires_grad:
                    parameter.data = parameter.data.bfloat16()

    def check_room(self, image_tokens: int) -> None:
        """Raises UserError where a picture and a caption are longer than what the model has positions for."""
        room = getattr(self.lm.config, "max_position_embeddings", None)
        prefix = self.positions(image_tokens)
        needed = prefix + len(self.lead) - 1 + self.max_seq_len
        if room and needed > room:
            raise UserError(
                f"{prefix} image tokens, the prompt and MAX_SEQ_LEN {self.max_seq_len} take {needed} positions, the "
                f"language model has {room}; lower PREFIX_TOKENS or MAX_SEQ_LEN"
            )

    def positions(self, image_tokens: int) -> int:
        """How many of the model's positions a picture takes."""
        return min(self.prefix_tokens or image_tokens, image_tokens)

    def compute_twice(self, name: str) -> None:
        """Keep only what goes into each block, and compute the block again backwards. Raises UserError."""
        try:
            self.lm.activation_checkpointing_enable({"use_reentrant": False})
        except ValueError as error:
            raise UserError(f"GRADIENT_CHECKPOINTING is not possible with {name!r}: {error}") from error
        self.gradient_checkpointing = True

    def merge(self) -> None:
        """Put what the adapters learned into the weights beside them, and do without."""
        merge_adapters(self.lm)
        self.adapters = (0, 0, "")

    def choose_trained(self, settings: Settings) -> None:
        """DECODER_TRAINABLE of the model; with adapters those alone."""
        if not self.adapters[0]:
            train_last_blocks(self.lm, settings.DECODER_TRAINABLE, "DECODER_TRAINABLE", "language model")
        for name, parameter in self.lm.named_parameters():
            if self.adapters[0] or name in self.new:
                parameter.requires_grad_("lora_" in name or name in self.new)

    def train(self, mode: bool = True) -> "LanguageModelDecoder":
        """What is frozen stays in eval mode, so its dropout is off; frozen blocks are computed twice all the same."""
        set_mode(self, mode)
        for module in (self, *self.lm.modules()):
            if getattr(module, "gradient_checkpointing", False):
                module.training = mode
        return self

    def embed(self, tokens: Tensor) -> Tensor:
        return self.lm.get_input_embeddings()(tokens).float()  # frozen ones may be kept in 16 bits

    def embedded_lead(self, U: int) -> Tensor:
        """The lead but its last token, (U, L, C)."""
        lead = torch.tensor(self.lead[:-1], dtype=torch.long, device=self.lm.device)
        return self.embed(lead.expand(U, -1))

    def shortened(self, image_tokens: Tensor) -> Tensor:
        """Image tokens (U, S, C) -> PREFIX_TOKENS of them, each the average of neighbours."""
        if not 0 < self.prefix_tokens < image_tokens.shape[1]:
            return image_tokens
        return F.adaptive_avg_pool1d(image_tokens.transpose(1, 2), self.prefix_tokens).transpose(1, 2)

    def new_cache(self) -> Any:
        from transformers import DynamicCache  # only here: most captioners need none

        return DynamicCache(config=self.lm.config)

    def start(self, image_tokens: Tensor, image_index: Tensor | None) -> LanguageCache:
        """Image tokens (U, S, C) through the model, with all of the lead but its last token."""
        before = torch.cat([self.shortened(image_tokens), self.embedded_lead(len(image_tokens))], dim=1)
        return self.read_before(before, image_index, {})

    def read_before(self, before: Tensor, image_index: Tensor | None, beside: dict[str, Tensor]) -> LanguageCache:
        """What comes before the captions of an image, embedded (U, P, C), and what the model is given beside it."""
        index = torch.arange(len(before), device=before.device) if image_index is None else image_index
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            return LanguageCache(None, index, 0, before, beside)
        past = self.new_cache()
        if before.shape[1]:
            self.lm.base_model(inputs_embeds=before, cache=past, use_cache=True, **beside)
        return LanguageCache(past, index, 0, None, beside)

    def read(self, tokens: Tensor, cache: LanguageCache, **kept: Tensor) -> tuple[Tensor, LanguageCache]:
        """Tokens (B, T) after those in the cache -> logits of all places, or of those kept, and the longer cache.

        What comes before a caption ends with the last token of the lead, whatever its first token is.
        """
        (B, T), rows = tokens.shape, None
        assert cache.length + T <= self.max_seq_len, f"{cache.length + T} tokens, at most {self.max_seq_len}"
        beside = {name: each[:1].expand(B, -1, -1) for name, each in cache.beside.items()}  # its keys are in the cache
        if cache.length == 0:
            tokens = torch.cat([torch.full_like(tokens[:, :1], self.lead[-1]), tokens[:, 1:]], dim=1)
            rows = cache.image_index.repeat_interleave(B // len(cache.image_index))
            beside = {name: each[rows] for name, each in cache.beside.items()}
        words, longer = self.embed(tokens), replace(cache, length=cache.length + T)
        if cache.unread is not None:
            return self.read_at_once(cache.unread[rows], words, **beside, **kept), longer
        longer.past = rows_of_cache(cache.past, rows)
        found = self.lm(inputs_embeds=words, cache=longer.past, use_cache=True, **beside, **kept)
        return found.logits[..., : self.vocab_size], longer

    def read_at_once(
        self, before: Tensor, words: Tensor, logits_to_keep: Tensor | None = None, **beside: Tensor
    ) -> Tensor:
        """What read() does, without a cache: each caption (B, T, C) after what comes before it (B, P, C)."""
        P, T = before.shape[1], words.shape[1]
        kept = T if logits_to_keep is None else F.pad(logits_to_keep, (P, 0))  # T: the last ones
        inputs = torch.cat([before, words], dim=1)
        found = self.lm(inputs_embeds=inputs, use_cache=False, logits_to_keep=kept, **beside)
        return found.logits[..., : self.vocab_size]

    def decode(self, tokens: Tensor, cache: LanguageCache) -> tuple[Tensor, LanguageCache]:
        return self.read(tokens, cache)

    def teach(self, tokens: Tensor, mask: Tensor, cache: LanguageCache) -> Tensor:
        """Whole captions (B, T) -> logits (N, V) of the N places where mask (B, T) holds, in their order."""
        return self.read(tokens, cache, logits_to_keep=mask)[0]

    def parts_that_run_alone(self) -> list[nn.Module]:
        return [*blocks_of(self.lm)]

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
