"""Tiny random language models in transformers' format, one folder a family, made once a test session."""

import tempfile
from functools import cache
from pathlib import Path

import torch
from tiny import CAPTIONS, TINY
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

FAMILIES = ("gpt2", "falcon", "llama")
KINDS = (*FAMILIES, "gpt2-cross")  # the last sees pictures by cross-attention
END, START = "<|endoftext|>", "<|begin|>"
SIZES = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2}
HOLDER = tempfile.TemporaryDirectory(prefix="tiny-language-models-")


def config_of(family: str, vocab_size: int) -> PretrainedConfig:
    ids = {"vocab_size": vocab_size, "eos_token_id": 0, "bos_token_id": 0, "pad_token_id": None}
    if family == "gpt2":
        dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.1)
        return GPT2Config(n_layer=2, n_embd=32, n_head=2, n_positions=64, **dropouts, **ids)
    if family == "falcon":
        return FalconConfig(**SIZES, new_decoder_architecture=False, **ids)
    # as Qwen and SmolLM: fewer keys than queries, untied output, more rows than tokens
    ids["vocab_size"] += 8
    return LlamaConfig(**SIZES, num_key_value_heads=1, intermediate_size=64, max_position_embeddings=64, **ids)


def save_tokenizer(folder: Path, **marks: str | None) -> Tokenizer:
    """GPT-2's kind of byte-level BPE, with its one mark unless others are given."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[END, START], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(["a photo of " + caption for caption in CAPTIONS], trainer)
    PreTrainedTokenizerFast(tokenizer_object=bpe, **{"eos_token": END, **marks}).save_pretrained(folder)
    return bpe


@cache
def language_model(family: str) -> str:
    """Its folder: GPT-2 has one mark for start and end and no padding, Llama a start of its own."""
    folder = Path(HOLDER.name) / family
    marks = {"bos_token": START} if family == "llama" else {"bos_token": END} if family == "gpt2" else {}
    vocabulary = save_tokenizer(folder, **marks)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = config_of(family, vocabulary.get_vocab_size())
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


def with_language_model(family: str, **changes) -> dict:
    """Tiny settings of a captioner with such a decoder, of a family or of KINDS."""
    family, *cross = family.split("-")
    decoder = "language_model_cross" if cross else "language_model"
    return {**TINY, "DECODER": decoder, "DECODER_MODEL_NAME": language_model(family), **changes}
