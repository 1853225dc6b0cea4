"""Teachers: captioners whose predictions and captions a smaller one learns from, all used in the same way.

    teacher = load_teacher("microsoft/git-base-coco", device)    # GIT, or a captioner of this project; others: captions
    rows, starts = teacher.encode(captions)                      # its own tokens, and where they start in the text
    probs = teacher.probabilities(pixels, rows, image_index, 1)  # (N, V) after each token of each row
    texts = teacher.captions(pixels, beams=5, num_captions=5)    # for each picture its captions, best first

U images, B captions, T tokens, V the teacher's vocabulary, N = targets of all rows. A teacher never learns: its weights
are frozen and in eval mode, and it is no part of the student, of its checkpoints or of its optimizer.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    GitForCausalLM,
    PreTrainedTokenizerFast,
)

from basics.errors import UserError, reason_of
from basics.files import file_hash
from basics.hub_files import check_reachable
from captioner.folder import load_captioner
from captioner.places import is_classifier, locate, model_type
from distillation.alignment import target_starts
from model import ImageToTextModel
from networks.caption import Captioned
from networks.decoding_options import DecodingOptions
from networks.encoder import ImageProcessor, prepare_pixels, quiet_transformers
from networks.git import LONGEST, git_logits, load_git
from tokenizer import END, PAD, START, UNK, CaptionTokenizer, Tokenizer

CAPTIONS_ONLY = (
    "this teacher is neither GIT nor a captioner of this project and can give captions only: set DISTILL_CAPTIONS, and "
    "DISTILL_ALPHA to 0"
)
EXPECTED = "expected a GIT model or a captioner of this project: a folder, a checkpoint_*.pt file or a Hub id"


class Teacher:
    """What all teachers do, and below it what each kind says itself; pixels are (U, 3, H, W)."""

    predicts = True  # the next tokens of given captions, and not only captions of its own
    model: nn.Module
    image_processor: ImageProcessor
    vocab_size: int
    pad_id: int
    end_id: int
    max_seq_len: int
    longest: int  # of captions it makes

    def __init__(self, name: str | Path, device: torch.device):
        raise NotImplementedError

    @property
    def caption_tokenizer(self) -> Tokenizer:
        """Its vocabulary, as a student has it that takes it."""
        raise NotImplementedError

    def spans(self, caption: str) -> tuple[list[int], list[int]]:
        """One row of encode(), uncut."""
        raise NotImplementedError

    def logits(self, pixels: Tensor, tokens: Tensor, image_index: Tensor, mask: Tensor) -> Tensor:
        """Tokens (B, T), the image (B,) of each -> logits (N, V) where mask (B, T) holds."""
        raise NotImplementedError

    def image_tokens(self, pixels: Tensor) -> Tensor:
        """-> (U, S, C)."""
        raise NotImplementedError

    def caption_pixels(self, pixels: Tensor, options: DecodingOptions) -> list[list[Captioned]]:
        """For each picture its captions, best first."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def pixels(self, images: Iterable[Image.Image]) -> Tensor:
        """The same crops that the student sees, through the teacher's own preprocessing -> (U, 3, H, W)."""
        return prepare_pixels(self.image_processor, images).to(self.device)

    def encode(self, captions: list[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Rows of token ids from start to end, and where each target of them starts (alignment.target_starts)."""
        rows, starts = zip(*map(self.spans, captions))
        most = self.max_seq_len
        return [row[:most] for row in rows], [row[: most - 1] for row in starts]

    @torch.no_grad()  # not inference_mode: features tapped on the way go into a loss
    def probabilities(
        self, pixels: Tensor, rows: list[list[int]], image_index: list[int], temperature: float
    ) -> Tensor:
        """What follows each token but the last of each row, (N, V) in float32, in the order of rows."""
        lengths = torch.tensor([len(row) - 1 for row in rows])
        tokens = torch.full((len(rows), int(lengths.max())), self.pad_id)
        for i, row in enumerate(rows):
            tokens[i, : len(row) - 1] = torch.tensor(row[:-1])
        mask = (torch.arange(tokens.shape[1]) < lengths[:, None]).to(self.device)
        logits = self.logits(pixels, tokens.to(self.device), torch.tensor(image_index, device=self.device), mask)
        return (logits.float() / temperature).softmax(-1)

    def captions(self, pixels: Tensor, beams: int, num_captions: int = 1) -> list[list[str]]:
        """num_captions <= beams texts for each picture, best first."""
        options = DecodingOptions(self.longest, beams, num_captions=num_captions)
        return [[text for text, _ in row] for row in self.caption_pixels(pixels, options)]

    def shares_vocabulary(self, tokenizer: Tokenizer) -> bool:
        return self.vocab_size == len(tokenizer) and self.caption_tokenizer.hash == tokenizer.hash


class GenerativeImageTextTeacher(Teacher):
    """GIT (Wang et al. 2022, arXiv 2205.14100): WordPiece tokens, one stream of image and text tokens."""

    model: GitForCausalLM

    def __init__(self, name: str | Path, device: torch.device):
        self.parts = parts = load_git(name, device)
        self.model, self.image_processor = parts.model, parts.image_processor
        self.tokenizer, self.vocab_size = parts.tokenizer, len(parts.tokenizer)
        self.end_id, self.pad_id = parts.tokenizer.sep_token_id, parts.tokenizer.pad_token_id or 0
        self.max_seq_len = parts.model.config.max_position_embeddings
        self.longest = min(self.max_seq_len, LONGEST)

    @cached_property
    def caption_tokenizer(self) -> Tokenizer:
        return wordpieces(self.tokenizer)

    def image_tokens(self, pixels: Tensor) -> Tensor:
        return self.model.git.visual_projection(self.model.git.image_encoder(pixels).last_hidden_state)

    def spans(self, caption: str) -> tuple[list[int], list[int]]:
        found = self.tokenizer(caption, return_offsets_mapping=True)
        pieces = self.tokenizer.convert_ids_to_tokens(found["input_ids"])[1:-1]
        continues = [piece.startswith("##") for piece in pieces]
        return found["input_ids"], target_starts(caption, found["offset_mapping"][1:-1], continues)

    def logits(self, pixels: Tensor, tokens: Tensor, image_index: Tensor, mask: Tensor) -> Tensor:
        return git_logits(self.model, pixels, tokens, image_index)[mask]

    def caption_pixels(self, pixels: Tensor, options: DecodingOptions) -> list[list[Captioned]]:
        return self.parts.caption_pixels(pixels, options)


class CaptionerTeacher(Teacher):
    """A captioner that train.py made."""

    model: ImageToTextModel

    def __init__(self, name: str | Path, device: torch.device):
        self.captioner = load_captioner(name, device)
        self.model, self.image_processor = self.captioner.model, self.captioner.image_processor
        self.tokenizer = self.captioner.tokenizer
        self.vocab_size = len(self.tokenizer)
        self.end_id, self.pad_id = self.tokenizer.end_id, self.tokenizer.pad_id
        self.max_seq_len = self.longest = self.model.max_seq_len

    @property
    def caption_tokenizer(self) -> Tokenizer:
        return self.tokenizer

    def image_tokens(self, pixels: Tensor) -> Tensor:
        return self.model.encode(pixels)

    def spans(self, caption: str) -> tuple[list[int], list[int]]:
        return self.tokenizer.encode(caption), target_starts(caption, self.tokenizer.offsets(caption))

    def logits(self, pixels: Tensor, tokens: Tensor, image_index: Tensor, mask: Tensor) -> Tensor:
        return self.model(pixels, tokens, image_index, mask)

    def caption_pixels(self, pixels: Tensor, options: DecodingOptions) -> list[list[Captioned]]:
        return self.captioner.caption_pixels(pixels, options)


class CaptionsTeacher(Teacher):
    """Any other captioner of transformers (BLIP, ViT with GPT-2, ...): its captions can be learned, no predictions."""

    predicts = False

    def __init__(self, name: str | Path, device: torch.device):
        try:
            check_reachable(str(name))
            with quiet_transformers():
                model = AutoModelForImageTextToText.from_pretrained(name, dtype=torch.float32)
                tokenizer = AutoTokenizer.from_pretrained(name)
                image_processor = AutoImageProcessor.from_pretrained(name)
        except Exception as error:  # a wrong folder fails in as many ways as there are models
            raise UserError(f"cannot load the teacher {str(name)!r}: {reason_of(error)} ({EXPECTED})") from error
        model.to(device)  # type: ignore[arg-type]  # the annotation of its to() loses self
        self.model, self.image_processor = model.eval().requires_grad_(False), image_processor
        self.generate: Callable[..., Tensor] = model.generate
        self.tokenizer = tokenizer

    @property
    def caption_tokenizer(self) -> Tokenizer:
        raise UserError('TOKENIZER "teacher" takes the vocabulary of GIT or of a captioner of this project only')

    @torch.inference_mode()
    def captions(self, pixels: Tensor, beams: int, num_captions: int = 1) -> list[list[str]]:
        with quiet_transformers():
            token_ids = self.generate(
                pixel_values=pixels,
                num_beams=beams,
                num_return_sequences=num_captions,
                do_sample=False,
                max_new_tokens=LONGEST - 1,
            )
        texts = [" ".join(text.split()) for text in self.tokenizer.batch_decode(token_ids, skip_special_tokens=True)]
        return [texts[i : i + num_captions] for i in range(0, len(texts), num_captions)]


def load_teacher(name: str, device: torch.device) -> Teacher:
    """The teacher of that name, frozen. Raises UserError."""
    return LazyTeacher(name, device).loaded


# by the model_type of config.json, as transformers has it; all others give captions
KINDS: dict[str, type[Teacher]] = {"image-to-text": CaptionerTeacher, "git": GenerativeImageTextTeacher}


def kind_of(path: Path) -> type[Teacher]:
    """Raises UserError for a folder that holds no model."""
    if is_classifier(path):
        raise UserError(f"{path} is a classifier and has no captions to teach; {EXPECTED}")
    kind = "image-to-text" if path.is_file() else model_type(path)
    if kind is None:
        raise UserError(f"{path} is no teacher: it has no config.json with a model_type; {EXPECTED}")
    return KINDS.get(kind, CaptionsTeacher)


class TeacherFiles:
    """Where the teacher of that name lies, and the hash of all its files. Raises UserError."""

    def __init__(self, name: str, expected: str):
        self.name, self.path = name, locate(name, "teacher", f"{expected} (--teacher-model-name)")

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.path)


class LazyTeacher(TeacherFiles):
    """A teacher that is loaded once, when it is first needed: what it said may lie on the disk already."""

    def __init__(self, name: str, device: torch.device):
        super().__init__(name, EXPECTED)
        self.device, self.kind = device, kind_of(self.path)

    @cached_property
    def loaded(self) -> Teacher:
        with torch.random.fork_rng():  # dropout must not depend on whether the teacher was needed
            return self.kind(self.path, self.device)


def wordpieces(tokenizer: PreTrainedTokenizerFast) -> CaptionTokenizer:
    """GIT's tokenizer as ours: the same ids, its special tokens under our names."""
    names = {"pad_token": PAD, "cls_token": START, "sep_token": END, "unk_token": UNK}
    ours = {getattr(tokenizer, theirs): name for theirs, name in names.items()}
    vocab = {ours.get(token, token): i for token, i in tokenizer.get_vocab().items()}
    try:
        lowercase = bool(json.loads(tokenizer.backend_tokenizer.to_str())["normalizer"]["lowercase"])
        return CaptionTokenizer(vocab, None, lowercase)
    except (TypeError, KeyError, UserError) as error:
        raise UserError(
            f"the teacher's tokenizer cannot be taken over ({error}): expected WordPiece as BERT has it, with [PAD], "
            "[CLS], [SEP] and [UNK]; train with TOKENIZER bpe"
        ) from error


def fingerprint(path: Path) -> str:
    """The first digits of the SHA-256 of all the teacher's files: its predictions depend on nothing else of it."""
    found = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and p.suffix != ".md"):
        found.update(str(file.relative_to(path)).encode() + bytes.fromhex(file_hash(file)))
    return found.hexdigest()[:16]
