"""Kinds of data, as preparing sees them: pictures with captions, or pictures with one class each.

data = prepare(settings, data_kind(settings, make_tokenizer))
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from basics.settings import Settings
from sources.captions import Captions, MakeTokenizer
from sources.classes.kind import Classes
from sources.prepared import AnyData
from sources.raw_captions import RawCaptions


class Kind(Protocol):
    """What depends on the texts that pictures have; all the rest of preparing is the same."""

    @property
    def text_files(self) -> tuple[str, ...]:
        """Suffixes of the texts in shards, beside .json."""
        ...

    def read(self, raw_dir: Path, data_path: Path) -> RawCaptions:
        """A raw folder, recognised by looking; archives are unpacked into data_path. Raises UserError."""
        ...

    def draw(self, image_dir: Path, num_images: int, seed: int) -> dict[str, list[str]]:
        """The pictures of DATASET shapes -> {file name: texts}."""
        ...

    def problem(self, num_texts: int) -> str:
        """Why a picture with so many texts cannot be used, "" where it can."""
        ...

    def refuse_useless(self, training_texts: Sequence[str]) -> None:
        """Raises UserError where nothing can be learned from them."""
        ...

    def stays(self, settings: Settings) -> str:
        """What is as it was where data are prepared again, in brackets, or ""."""
        ...

    def count(self, data: AnyData, settings: Settings) -> dict:
        """Plain numbers for the report. Raises UserError as refuse_useless() does."""
        ...

    def lines(self, report: dict) -> list[str]:
        """These as a person reads them."""
        ...

    def notes(self, data: AnyData, hashes: dict[str, str]) -> list[str]:
        """What should make the owner look twice; hashes are of the pictures' files, where they were read."""
        ...

    def listed(self, data: AnyData) -> dict:
        """What dataset.json holds of this kind alone."""
        ...


def data_kind(settings: Settings, make_tokenizer: MakeTokenizer | None = None) -> Kind:
    """What TASK learns from; without make_tokenizer nobody counts the captions that MAX_SEQ_LEN cuts."""
    return Classes(settings.DATASET) if settings.TASK == "classify" else Captions(make_tokenizer)
