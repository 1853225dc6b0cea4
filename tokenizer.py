"""Byte-level BPE over the captions: trained on the training split when vocab.json / merges.txt are absent, else loaded.

    tokenizer = build_tokenizer(settings, training_captions)
    tokenizer.encode("a dog runs")  -> [1, 265, 290, 301, 2]     # <s> ... </s>
    tokenizer.decode([1, 265, 290, 301, 2]) -> "a dog runs"

Every byte has a token, so no caption holds an unknown word; <unk> keeps its place for vocabularies made elsewhere:
TOKENIZER "teacher" takes the teacher's own, which for GIT is WordPiece and has no merges.
Reads and writes: settings.vocab_path, settings.merges_path.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from basics.errors import UserError
from basics.files import write_atomically
from basics.mapped import ROWS_A_PIECE
from basics.settings import Settings
from networks import language_tokenizer
from networks.language_tokenizer import LanguageTokenizer

OUR_FILES = ("vocab.json", "merges.txt")
PAD, START, END, UNK = SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")
AT_ONCE = 10_000  # captions whose encodings are in memory together
WORDPIECE = "#version: wordpiece"  # all that merges.txt holds of a vocabulary without merges


class Tokenizer(Protocol):
    """The door to vocabularies: captions to token ids and back, whatever cuts them.

    Ids run from 0 to len() - 1. start_id may be end_id where a vocabulary has one mark for both; pad_id is never
    supervised, so it may be any id. hash tells two vocabularies apart: equal hashes mean equal ids for every caption.
    """

    pad_id: int
    start_id: int
    end_id: int
    lowercase: bool  # whether captions are lower-cased before they are cut

    @property
    def hash(self) -> str: ...

    def __len__(self) -> int: ...

    def encode(self, caption: str) -> list[int]:
        """Ids of a caption, start and end included."""
        ...

    def encode_each(self, captions: Sequence[str]) -> Iterator[list[int]]:
        """encode() of many, faster."""
        ...

    def offsets(self, caption: str) -> list[tuple[int, int]]:
        """Where each token of encode() but start and end lies in the caption, in characters."""
        ...

    def decode(self, ids: list[int]) -> str:
        """The caption up to the first end, without special tokens, on one line."""
        ...

    def to_dict(self) -> dict:
        """Plain types for a checkpoint."""
        ...

    def files(self) -> dict[str, str]:
        """Name -> text of what a captioner's folder keeps of it."""
        ...


def id_type(tokenizer: Tokenizer) -> np.dtype:
    """The smallest that holds all of its ids."""
    return np.dtype("<u2" if len(tokenizer) <= 2**16 else "<u4")


def token_ids(captions: Sequence[str], tokenizer: Tokenizer, max_seq_len: int, first: int = 0) -> Iterator[list[int]]:
    """The ids of each caption from the first on, cut; few captions are in memory at once."""
    for start in range(first, len(captions), ROWS_A_PIECE):
        for ids in tokenizer.encode_each(captions[start : start + ROWS_A_PIECE]):
            yield cut(ids, max_seq_len)


def cut(ids: list[int], max_seq_len: int) -> list[int]:
    """At most max_seq_len tokens, the last one still </s>."""
    return ids if len(ids) <= max_seq_len else [*ids[: max_seq_len - 1], ids[-1]]


class CaptionTokenizer:
    """Captions to token ids and back; `hash` tells two vocabularies apart.

    vocab maps token -> id, merges lists the pairs in the order they apply, as vocab.json and merges.txt hold them;
    merges None: the tokens are WordPieces.
    """

    def __init__(self, vocab: dict[str, int], merges: list[tuple[str, str]] | None, lowercase: bool):
        self.vocab, self.lowercase = vocab, lowercase
        self.merges = None if merges is None else [(first, second) for first, second in merges]
        missing = [token for token in SPECIAL_TOKENS if token not in vocab]
        if missing:
            raise UserError(f"the vocabulary lacks {' '.join(missing)}; expected a vocab.json written by this project")
        if sorted(vocab.values()) != list(range(len(vocab))):
            raise UserError("the vocabulary's ids are not 0, 1, 2, ...; expected a vocab.json written by this project")
        self.pad_id, self.start_id, self.end_id, self.unk_id = (vocab[token] for token in SPECIAL_TOKENS)
        if merges is None:
            self._cut = make_wordpiece(vocab, lowercase)
        else:
            self._cut = make_bpe(models.BPE(vocab=vocab, merges=self.merges, unk_token=UNK), lowercase)

    def __len__(self) -> int:
        return len(self.vocab)

    @property
    def hash(self) -> str:
        content = json.dumps([sorted(self.vocab.items()), self.merges, self.lowercase])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def encode(self, caption: str) -> list[int]:
        """Ids with <s> and </s> around; a "</s>" written in the caption is plain text."""
        return [self.start_id, *self._cut.encode(caption).ids, self.end_id]

    def encode_each(self, captions: Sequence[str]) -> Iterator[list[int]]:
        """encode() of many, faster; the library's objects take 2 KB a caption, so few are there at once."""
        for start in range(0, len(captions), AT_ONCE):
            for encoding in self._cut.encode_batch(captions[start : start + AT_ONCE]):
                yield [self.start_id, *encoding.ids, self.end_id]

    def offsets(self, caption: str) -> list[tuple[int, int]]:
        """Where each token of encode() but <s> and </s> lies in the caption, in characters."""
        return self._cut.encode(caption).offsets

    def decode(self, ids: list[int]) -> str:
        """The caption up to the first </s>, without special tokens, on one line."""
        ids = list(ids)
        if self.end_id in ids:
            ids = ids[: ids.index(self.end_id)]
        special = (self.pad_id, self.start_id, self.unk_id)
        return " ".join(self._cut.decode([i for i in ids if i not in special]).split())

    def to_dict(self) -> dict:
        """Plain types for a checkpoint; from_dict() makes the same tokenizer again."""
        return {"vocab": self.vocab, "merges": self.merges, "lowercase": self.lowercase, "hash": self.hash}

    @classmethod
    def from_dict(cls, state: dict) -> "CaptionTokenizer":
        return cls(state["vocab"], state["merges"], state["lowercase"])

    def save(self, vocab_path: Path, merges_path: Path) -> None:
        """Write vocab.json and merges.txt in the form that Hugging Face's byte-level BPE tokenizers read."""
        for path, text in zip((vocab_path, merges_path), self.files().values()):
            write_atomically(path, text)

    def files(self) -> dict[str, str]:
        return dict(zip(OUR_FILES, (json.dumps(self.vocab, ensure_ascii=False), self.merges_text)))

    @property
    def merges_text(self) -> str:
        lines = [WORDPIECE] if self.merges is None else ["#version: 0.2", *(" ".join(pair) for pair in self.merges)]
        return "\n".join(lines) + "\n"

    @classmethod
    def load(cls, vocab_path: Path, merges_path: Path, lowercase: bool) -> "CaptionTokenizer":
        try:
            vocab = json.loads(Path(vocab_path).read_text(encoding="utf-8"))
            lines = Path(merges_path).read_text(encoding="utf-8").splitlines()
            pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
            merges = [(first, second) for first, second in pairs]
            return cls(vocab, None if lines[:1] == [WORDPIECE] else merges, lowercase)
        except UserError as error:
            raise UserError(f"{vocab_path}: {error}") from None
        except Exception as error:  # tokenizers raises bare Exceptions for merges that do not fit the vocabulary
            raise UserError(
                f"cannot read the tokenizer {vocab_path}, {merges_path}: {error}; delete both files to train it again"
            ) from None


def make_bpe(model: models.BPE, lowercase: bool) -> tokenizers.Tokenizer:
    bpe = tokenizers.Tokenizer(model)
    steps = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    bpe.normalizer = normalizers.Sequence(steps + [normalizers.Lowercase()] * lowercase)
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)  # "dog" is one token first in a caption too
    bpe.decoder = decoders.ByteLevel()
    return bpe


def make_wordpiece(vocab: dict[str, int], lowercase: bool) -> tokenizers.Tokenizer:
    """BERT's (Wu et al. 2016, arXiv 1609.08144), as GIT has it."""
    pieces = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token=UNK))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.decoder = decoders.WordPiece()
    return pieces


def train_tokenizer(captions: Sequence[str], vocab_size: int, min_frequency: int, lowercase: bool) -> CaptionTokenizer:
    """Learn merges from the captions; the vocabulary is smaller than vocab_size when the captions hold no more."""
    bpe = make_bpe(models.BPE(unk_token=UNK), lowercase)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    model = json.loads(bpe.to_str())["model"]
    return CaptionTokenizer(model["vocab"], model["merges"], lowercase)


def tokenizer_files(folder: Path) -> tuple[str, ...]:
    """What a captioner's folder must hold of its vocabulary: a language model's, or ours."""
    brought = any((folder / name).is_file() for name in language_tokenizer.FILES)
    return language_tokenizer.FILES if brought else OUR_FILES


def tokenizer_of_folder(folder: Path, lowercase: bool) -> Tokenizer:
    """Raises UserError, and ValueError for a language model's."""
    names = tokenizer_files(folder)
    if names == OUR_FILES:
        return CaptionTokenizer.load(folder / names[0], folder / names[1], lowercase)
    return LanguageTokenizer.from_files({name: (folder / name).read_text(encoding="utf-8") for name in names})


def tokenizer_from_dict(state: dict) -> Tokenizer:
    """Of what to_dict() gave. Raises anything where it cannot be used."""
    made = LanguageTokenizer.from_files(state["files"]) if "files" in state else CaptionTokenizer.from_dict(state)
    if made.hash != state["hash"]:
        raise ValueError(f"it has hash {made.hash}, not {state['hash']}")
    return made


def build_tokenizer(settings: Settings, training_captions: Sequence[str]) -> Tokenizer:
    """That which the decoder brings along; else the BPE at the configured paths, trained where there is none."""
    if settings.DECODER_MODEL_NAME is None:
        return build_bpe(settings, training_captions)
    from networks.decoders import find_decoder  # imports torch, which preparing data with our vocabulary can do without

    brought: Tokenizer | None = find_decoder(settings.DECODER).vocabulary(settings)
    return brought or build_bpe(settings, training_captions)


def build_bpe(settings: Settings, training_captions: Sequence[str]) -> CaptionTokenizer:
    """Load the BPE at the configured paths, or train it on the training captions and save it there.

    Where a crash has left one of the two files, the same training completes the pair.
    """
    vocab_path, merges_path = settings.vocab_path, settings.merges_path
    present = [path for path in (vocab_path, merges_path) if path.is_file()]
    if len(present) == 2:
        tokenizer = CaptionTokenizer.load(vocab_path, merges_path, settings.LOWERCASE)
        if len(tokenizer) > settings.VOCAB_SIZE:
            raise UserError(
                f"{vocab_path} holds {len(tokenizer):,} tokens, VOCAB_SIZE is {settings.VOCAB_SIZE:,}; "
                f"delete it and {merges_path} to train again, or set VOCAB_PATH and MERGES_PATH"
            )
        return tokenizer
    tokenizer = train_tokenizer(training_captions, settings.VOCAB_SIZE, settings.MIN_FREQUENCY, settings.LOWERCASE)
    texts = dict(zip((vocab_path, merges_path), tokenizer.files().values()))
    if present and present[0].read_text(encoding="utf-8") != texts[present[0]]:
        raise UserError(
            f"found {present[0]} but not its partner among {vocab_path} and {merges_path}; "
            "put the missing file there, or delete both to train again"
        )
    tokenizer.save(vocab_path, merges_path)
    return tokenizer
