"""GIT (Wang et al. 2022, arXiv 2205.14100) as a teacher: transformers' GitForCausalLM around its own or any encoder.

    parts = load_git("microsoft/git-base-coco")                 # a Hub id, a folder of transformers, or one of save_git
    parts = build_git(encoder, image_processor, train_wordpiece(captions, 6000), hidden_size=384, ...)
    logits = git_logits(parts.model, pixels, token_ids, image_index)       # what comes after each token
    rows = parts.caption_pixels(pixels, DecodingOptions(beam_size=3))          # for each picture (text, Caption) pairs
    save_git(parts, folder)                                     # of build_git: encoder and vocabulary included

A caption is [CLS] w1 .. wk [SEP] in WordPieces. U images, B captions, T tokens, S image tokens of width E, V words.
A model of build_git takes cached features (U, 1, S, E) wherever it takes pixels (U, 3, H, W).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from tokenizers import BertWordPieceTokenizer
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoProcessor,
    BertTokenizer,
    DynamicCache,
    GitConfig,
    GitForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import BaseModelOutput

from basics.errors import UserError, reason_of
from basics.files import atomic_folder, recover_folder, write_atomically
from networks.caption import Captioned
from networks.decoding_options import DecodingOptions
from networks.encoder import (
    ImageProcessor,
    VisionEncoder,
    describe_encoder,
    quiet_transformers,
    rebuild_encoder,
    token_shape,
)
from networks.search import generate

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "encoder/config.json")
LONGEST = 40  # tokens, both ends included, of a caption where nobody sets another limit
MARK = "image_encoder"  # in config.json: the encoder is the one in this folder, not GIT's own
EXPECTED = "expected a GIT model of transformers (a Hub id or a folder) or a folder of benchmarks.git_teacher"


class ClsAndSep(NamedTuple):
    """The tokens that GIT's captions stand between, as search.Ends."""

    start_id: int
    end_id: int


@dataclass
class GitParts:
    """What it takes to caption a picture with GIT."""

    model: GitForCausalLM
    tokenizer: PreTrainedTokenizerFast
    image_processor: ImageProcessor

    def caption_pixels(self, pixels: Tensor, options: DecodingOptions) -> list[list[Captioned]]:
        """As Captioner.caption_pixels; the model keeps its mode."""
        was_training = self.model.training
        self.model.eval()
        options = replace(options, max_seq_len=options.max_seq_len or LONGEST)
        ends = ClsAndSep(self.tokenizer.cls_token_id, self.tokenizer.sep_token_id)
        captions = generate(GitDecoder(self.model, ends.start_id), pixels.to(self.model.device), ends, options)
        self.model.train(was_training)
        return [[(self.text(caption.tokens), caption) for caption in row] for row in captions]

    def text(self, tokens: list[int]) -> str:
        return " ".join(self.tokenizer.batch_decode([tokens], skip_special_tokens=True)[0].split())


@dataclass
class GitCache:
    """Keys and values of the images and of `length` caption tokens, which change in place, unlike our own cache.

    start_logits (U, 1, V): what follows [CLS], until decode() has given it.
    """

    past_key_values: DynamicCache
    start_logits: Tensor | None = None
    length: int = 1

    def select(self, rows: Tensor, images: Tensor | None = None) -> "GitCache":
        self.past_key_values.batch_select_indices(rows)
        return self


class GitDecoder:
    """GIT as search.generate() takes a model: it encodes an image once, however many beams it has."""

    def __init__(self, model: GitForCausalLM, start_id: int):
        self.model, self.start_id, self.max_seq_len = model, start_id, model.config.max_position_embeddings

    def start(self, pixels: Tensor) -> GitCache:
        return GitCache(*self.look(pixels))

    def look(self, pixels: Tensor) -> tuple[DynamicCache, Tensor]:
        """Pixels (U, 3, H, W), or features (U, 1, S, E), and the [CLS] that each caption begins with, read.

        -> their keys and values, and the logits (U, 1, V) of what follows.
        """
        start = torch.full((len(pixels), 1), self.start_id, device=pixels.device)
        found = self.model(input_ids=start, pixel_values=pixels, use_cache=True, logits_to_keep=1)
        return found.past_key_values, found.logits

    def decode(self, tokens: Tensor, cache: GitCache) -> tuple[Tensor, GitCache]:
        """Tokens (B, T) after those in the cache -> logits (B, T, V).

        The first time tokens are the [CLS] of B / U captions an image, which start() has read once for all of them.
        """
        past = cache.past_key_values
        if cache.start_logits is not None:
            copies = len(tokens) // len(cache.start_logits)
            past.batch_repeat_interleave(copies)
            return cache.start_logits.repeat_interleave(copies, 0), GitCache(past)
        length = cache.length + tokens.shape[1]
        # said because GIT would go on counting after the image tokens in the cache, though they have no positions
        positions = torch.arange(cache.length, length, device=tokens.device)[None]
        found = self.model(input_ids=tokens, position_ids=positions, past_key_values=past, use_cache=True)
        return found.logits, GitCache(past, length=length)


class ImageEncoder(nn.Module):
    """A VisionEncoder in the place of GIT's own; features (U, 1, S, E), four axes because GIT insists, pass through."""

    def __init__(self, encoder: VisionEncoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False, **kwargs: Any) -> BaseModelOutput:
        tokens = pixel_values[:, 0].float() if pixel_values.shape[1] == 1 else self.encoder(pixel_values)
        return BaseModelOutput(last_hidden_state=tokens)


def build_git(
    encoder: VisionEncoder,
    image_processor: ImageProcessor,
    tokenizer: BertTokenizer,
    *,
    hidden_size: int,
    layers: int,
    heads: int,
    intermediate_size: int,
    dropout: float,
    max_positions: int,
) -> GitParts:
    """A GIT with fresh weights around the encoder; max_positions is the most tokens of a caption, [CLS] included."""
    width = token_shape(encoder, image_processor)[1]
    config = GitConfig(
        # GIT's own encoder is thrown away as soon as it is made: no larger than it must be
        vision_config={"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 1},
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate_size,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        max_position_embeddings=max_positions,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
    )
    config.update({MARK: "encoder"})
    return GitParts(put_around(config, encoder, image_processor), tokenizer, image_processor)


def put_around(config: GitConfig, encoder: VisionEncoder, image_processor: ImageProcessor) -> GitForCausalLM:
    """GIT with the encoder in the place of its own."""
    model = GitForCausalLM(config).float()
    model.git.image_encoder = ImageEncoder(encoder)
    num_image_tokens = token_shape(encoder, image_processor)[0]
    for layer in model.git.encoder.layer:  # GIT's loss and its masks count the image tokens by this
        layer.attention.self.image_patch_tokens = num_image_tokens
    return model


def train_wordpiece(captions: list[str], vocab_size: int) -> BertTokenizer:
    """A lower-case WordPiece vocabulary of at most vocab_size tokens; [PAD] is 0. Raises UserError."""
    trained = BertWordPieceTokenizer(lowercase=True)
    normalize, split = trained.normalizer.normalize_str, trained.pre_tokenizer.pre_tokenize_str
    words = {word for caption in captions for word, _ in split(normalize(caption))}
    # letters first and sorted: the library numbers them in an order that differs from process to process
    letters = [*sorted(set().union(*words)), *sorted({f"##{letter}" for word in words for letter in word[1:]})]
    if len(SPECIAL_TOKENS) + len(letters) > vocab_size:
        raise UserError(f"a vocabulary of {vocab_size} has no room for the captions' {len(letters)} letters and signs")
    trained.train_from_iterator(captions, vocab_size, special_tokens=SPECIAL_TOKENS + letters, show_progress=False)
    ids = trained.get_vocab()
    return BertTokenizer(vocab=dict(sorted(ids.items(), key=lambda item: item[1])))  # vocab_file= would be ignored


def save_git(parts: GitParts, folder: str | Path) -> None:
    """Write a model of build_git whole, then put it in the place of an older one."""
    image_encoder = parts.model.git.image_encoder
    assert isinstance(image_encoder, ImageEncoder), f"expected a model of build_git, got {type(image_encoder).__name__}"
    with atomic_folder(Path(folder)) as fresh:
        weights = {name: tensor.contiguous() for name, tensor in parts.model.state_dict().items()}
        save_file(weights, fresh / "model.safetensors", metadata={"format": "pt"})
        parts.model.config.save_pretrained(fresh)
        parts.tokenizer.save_pretrained(fresh)
        for name, text in describe_encoder(image_encoder.encoder, parts.image_processor).items():
            write_atomically(fresh / "encoder" / name, text)


def load_git(name: str | Path, device: str | torch.device = "cpu") -> GitParts:
    """A GIT model in float32, in eval mode and frozen, with its tokenizer and preprocessing. Raises UserError."""
    folder = Path(name)
    recover_folder(folder)
    try:
        with quiet_transformers():
            parts = load_saved_git(folder) if is_saved_git(folder) else load_plain_git(str(name))
    except UserError:
        raise
    except Exception as error:  # a wrong folder or file fails in as many ways as there are files
        raise UserError(f"cannot load the GIT model {str(name)!r}: {reason_of(error)} ({EXPECTED})") from error
    check_tokenizer(parts, str(name))
    parts.model.to(device)  # type: ignore[arg-type]  # the annotation of its to() loses self
    parts.model.eval().requires_grad_(False)
    return parts


def is_saved_git(folder: Path) -> bool:
    config = folder / "config.json"
    return (folder / "encoder").is_dir() or config.is_file() and f'"{MARK}"' in config.read_text(encoding="utf-8")


def load_plain_git(name: str) -> GitParts:
    model_type = AutoConfig.from_pretrained(name).model_type
    if model_type != "git":
        raise UserError(f"{name!r} is a model of type {model_type!r}, not GIT; {EXPECTED}")
    # the dtype is said because an fp16 checkpoint would load so
    loaded: Any = GitForCausalLM.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
    model, report = loaded  # which the annotation of from_pretrained() does not know
    if missing := sorted(report["missing_keys"]):
        raise UserError(f"the weights of {name!r} lack {len(missing)} tensors, {missing[0]} first; {EXPECTED}")
    processor = AutoProcessor.from_pretrained(name)
    return GitParts(model, processor.tokenizer, processor.image_processor)


def load_saved_git(folder: Path) -> GitParts:
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise UserError(f"the GIT model {folder} lacks {', '.join(missing)}; {EXPECTED}")
    encoder_files = {p.name: p.read_text(encoding="utf-8") for p in (folder / "encoder").glob("*.json")}
    encoder, image_processor = rebuild_encoder(encoder_files)
    model = put_around(GitConfig.from_pretrained(folder), encoder, image_processor)
    model.load_state_dict(load_file(folder / "model.safetensors"))  # strict, and in float32 whatever the file has
    return GitParts(model, BertTokenizer.from_pretrained(folder), image_processor)


def check_tokenizer(parts: GitParts, name: str) -> None:
    """Without its vocabulary transformers makes a tokenizer of five tokens and says nothing."""
    found, expected = len(parts.tokenizer), parts.model.config.vocab_size
    if found != expected:
        raise UserError(
            f"the tokenizer of {name!r} has {found:,} tokens, its model {expected:,}; expected tokenizer.json or "
            "vocab.txt of that very model beside its config.json"
        )
    if parts.tokenizer.cls_token_id is None or parts.tokenizer.sep_token_id is None:
        raise UserError(f"the tokenizer of {name!r} has no [CLS] or no [SEP], between which GIT's captions stand")


def git_logits(model: GitForCausalLM, pixels: Tensor, token_ids: Tensor, image_index: Tensor) -> Tensor:
    """pixels (U, 3, H, W), captions (B, T) from [CLS] on, the image (B,) of each -> logits (B, T, V) of what follows.

    Captions are padded at their end. Images, the most of the work, run once each, however many captions they have.
    """
    decoder = GitDecoder(model, int(token_ids[0, 0]))
    past, logits = decoder.look(pixels)
    first, cache = logits[image_index], GitCache(past).select(image_index)  # (B, 1, V)
    if token_ids.shape[1] == 1:
        return first
    return torch.cat([first, decoder.decode(token_ids[:, 1:], cache)[0]], dim=1)
