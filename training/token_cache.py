"""Token ids of all captions in a file that is mapped: encoded once, by one process, and held in memory by none.

    dataset = cached_pairs(pictures, tokenizer, settings, processes)      # features=, mixed_in= where there are any
    dataset.tokens[7]                                                    # of caption 7

DATA_DIR/<DATASET>/tokens/<split>-<key>.bin holds packed rows (basics/mapped.py). The key covers the vocabulary,
MAX_SEQ_LEN, the captions and the version of the library, so other ones make another file. Building can be stopped and
goes on where it was.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence

import tokenizers

from basics.cache_file import CacheFile
from basics.errors import UserError, reason_of
from basics.mapped import BYTE, Mapped, PackedRows, packed
from basics.progress_bar import progress_bar
from basics.settings import Settings
from dataset import ImageTextDataset, SplitPictures, ViewReader
from tokenizer import Tokenizer, id_type, token_ids
from training.processes import Processes, main_first

BYTES = 40  # a caption, as far as that is known before


def cached_pairs(
    pictures: SplitPictures,
    tokenizer: Tokenizer,
    settings: Settings,
    processes: Processes,
    *,
    features: ViewReader | None = None,
    mixed_in: Sequence[str] | None = None,
) -> ImageTextDataset:
    """The pairs of a split, their token ids from the disk where they are there and whole, else made now."""
    tokens = cached_tokens(pictures, tokenizer, settings, processes, mixed_in)
    return ImageTextDataset(pictures, tokenizer, settings, features=features, mixed_in=mixed_in, tokens=tokens)


def cached_tokens(
    pictures: SplitPictures,
    tokenizer: Tokenizer,
    settings: Settings,
    processes: Processes,
    mixed_in: Sequence[str] | None,
) -> PackedRows | None:
    """None where the disk does not take them, which is said: they are no more than what can be made at each start."""
    captions, cache = pictures.captions(mixed_in), token_file(pictures, tokenizer, settings, mixed_in)

    def produce(done: int) -> Iterator[tuple[int, bytes]]:
        return packed(token_ids(captions, tokenizer, settings.MAX_SEQ_LEN, done), id_type(tokenizer))

    bar = progress_bar(total=len(captions), desc=f"tokens of {pictures.split}", unit=" captions")
    with main_first(processes), bar:
        try:
            cache.make(len(captions), BYTES * len(captions), produce, bar)
        except (OSError, UserError) as error:
            with contextlib.suppress(OSError):
                cache.forget(".part*")
            print(f"tokens       of {pictures.split} stay in memory, no file can be made of them ({reason_of(error)})")
            return None
    return PackedRows(Mapped(cache.path, BYTE), len(captions), id_type(tokenizer))


def token_file(
    pictures: SplitPictures, tokenizer: Tokenizer, settings: Settings, mixed_in: Sequence[str] | None
) -> CacheFile:
    inputs = {
        "vocabulary": tokenizer.hash,
        "tokenizers": tokenizers.__version__,  # what cuts the captions
        "longest": settings.MAX_SEQ_LEN,
        "captions": pictures.source.captions_fingerprint(),
        "mixed_in": hashlib.sha256(json.dumps([*(mixed_in or [])]).encode()).hexdigest(),
    }
    return CacheFile(settings.data_path / "tokens" / pictures.split, inputs)
