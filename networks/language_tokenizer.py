"""A language model's own tokenizer behind the Tokenizer door: captions to the ids that it was trained with, and back.

    tokenizer = load_language_tokenizer(settings)       # of DECODER_MODEL_NAME
    tokenizer.files()                                   # tokenizer.json and tokenizer_config.json, as in transformers
    tokenizer = LanguageTokenizer.from_files(files)     # without transformers and the Hub

Captions are cleaned as for our own vocabulary (whitespace, LOWERCASE) by steps put into tokenizer.json itself, and
begin with the form that a word has in the middle of a text, as they follow a prompt. Where the model has no token for
the start, its end serves; where it has none for padding, another token pads: padding is never supervised.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence

import tokenizers
from tokenizers import Regex, normalizers

from basics.errors import UserError, first_line, reason_of
from basics.settings import Settings
from basics.stored import check, parse_json

FILES = ("tokenizer.json", "tokenizer_config.json")
AT_ONCE = 10_000  # captions whose encodings are in memory together
EXPECTED = "expected a Hub id that can be reached, or a folder with tokenizer.json (--decoder-model-name)"
CONFIG = {"bos_token": str, "eos_token": str, "pad_token": str, "lowercase": bool}


class LanguageTokenizer:
    """tokenizer.json as text, and which of its tokens start, end and pad a caption; see tokenizer.Tokenizer."""

    def __init__(self, text: str, start: str, end: str, pad: str, lowercase: bool):
        self.text, self.lowercase = text, lowercase
        self._cut = tokenizers.Tokenizer.from_str(text)
        self._cut.encode_special_tokens = True  # an end that is written in a caption is plain text
        self._cut.no_padding()
        self._cut.no_truncation()
        self.start_id, self.end_id, self.pad_id = map(self.id_of, (start, end, pad))
        self.marks = (start, end, pad)
        self.size = 1 + max(self._cut.get_vocab().values())

    def id_of(self, token: str) -> int:
        """Raises ValueError for a token that it has not."""
        found = self._cut.token_to_id(token)
        if found is None:
            raise ValueError(f"tokenizer.json has no token {token}")
        return int(found)

    def __len__(self) -> int:
        return self.size

    @property
    def hash(self) -> str:
        content = json.dumps([self.text, self.marks])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def encode(self, caption: str) -> list[int]:
        """Ids of a caption, start and end included."""
        return [self.start_id, *self._cut.encode(caption, add_special_tokens=False).ids, self.end_id]

    def encode_each(self, captions: Sequence[str]) -> Iterator[list[int]]:
        for start in range(0, len(captions), AT_ONCE):
            for encoding in self._cut.encode_batch(captions[start : start + AT_ONCE], add_special_tokens=False):
                yield [self.start_id, *encoding.ids, self.end_id]

    def offsets(self, caption: str) -> list[tuple[int, int]]:
        """Where each token of encode() but start and end lies in the caption, in characters."""
        return self._cut.encode(caption, add_special_tokens=False).offsets

    def decode(self, ids: list[int]) -> str:
        """The caption up to the first end, without special tokens, on one line; the start may be the end's token."""
        ids = list(ids)
        if ids[:1] == [self.start_id]:
            ids = ids[1:]
        if self.end_id in ids:
            ids = ids[: ids.index(self.end_id)]
        return " ".join(self._cut.decode(ids, skip_special_tokens=True).split())

    def files(self) -> dict[str, str]:
        """What a captioner's folder keeps of it, in the form that transformers' AutoTokenizer reads too."""
        marks = dict(zip(("bos_token", "eos_token", "pad_token"), self.marks))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **marks, "lowercase": self.lowercase}
        return dict(zip(FILES, (self.text, json.dumps(config, indent=2))))

    def to_dict(self) -> dict:
        """Plain types for a checkpoint."""
        return {"files": self.files(), "hash": self.hash}

    @classmethod
    def from_files(cls, files: dict[str, str]) -> "LanguageTokenizer":
        """Raises ValueError."""
        config = parse_json(files[FILES[1]], FILES[1])
        check(config, CONFIG, FILES[1])
        try:
            start, end, pad, lowercase = (config[name] for name in CONFIG)
            return cls(files[FILES[0]], start, end, pad, lowercase)
        except Exception as error:  # tokenizers raises bare Exceptions
            raise ValueError(f"{FILES[0]}: {reason_of(error)}") from error


def load_language_tokenizer(settings: Settings) -> LanguageTokenizer:
    """That of DECODER_MODEL_NAME, which may be cut to pieces by LOWERCASE alone. Raises UserError."""
    from transformers import AutoTokenizer  # takes its time to import; captioners that are stored do without

    from networks.encoder import quiet_transformers  # with it: this file needs neither torch nor transformers

    name = settings.DECODER_MODEL_NAME
    try:
        with quiet_transformers():
            found = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        cut = tokenizers.Tokenizer.from_str(found.backend_tokenizer.to_str())
    except (
        Exception
    ) as error:  # a wrong folder fails in as many ways as there are tokenizers; slow ones have no backend
        raise UserError(f"cannot load the tokenizer of {name!r}: {first_line(error)} {EXPECTED}") from error
    if found.eos_token is None:
        raise UserError(
            f"the tokenizer of {name!r} has no end token, by which captions end; expected eos_token in its "
            "tokenizer_config.json"
        )
    start, end = found.bos_token or found.eos_token, found.eos_token
    tokenizer = LanguageTokenizer(with_cleaning(cut, settings.LOWERCASE), start, end, end, settings.LOWERCASE)
    if tokenizer.decode(tokenizer.encode("a dog")) != "a dog":  # transformers makes up vocabularies that are not there
        raise UserError(f"the tokenizer of {name!r} cannot write 'a dog'; {EXPECTED}")
    return LanguageTokenizer(tokenizer.text, start, end, padding(tokenizer, found.pad_token), settings.LOWERCASE)


def padding(tokenizer: LanguageTokenizer, own: str | None) -> str:
    """The model's own pad token, or the first that neither starts nor ends a caption."""
    ends = (tokenizer.start_id, tokenizer.end_id)
    if own is not None and tokenizer._cut.token_to_id(own) not in (None, *ends):
        return own
    by_id = sorted((number, token) for token, number in tokenizer._cut.get_vocab().items())
    return next(token for number, token in by_id if number not in ends)


def with_cleaning(cut: tokenizers.Tokenizer, lowercase: bool) -> str:
    """Its tokenizer.json with our cleaning first, and a space before captions where words are cut otherwise without."""
    *first, last = cut.encode("a a", add_special_tokens=False).ids or [0]
    steps = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    steps += [normalizers.Lowercase()] * lowercase + [normalizers.Prepend(" ")] * (first[:1] != [last])
    own = [cut.normalizer] if cut.normalizer is not None else []
    cut.normalizer = normalizers.Sequence(steps + own)
    return cut.to_str()
