"""Captions as people really have them, whatever form they came in."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from basics.paths import is_utf8, shown

SPLIT_NAMES = {"train": "train", "restval": "train", "val": "val", "dev": "val", "validation": "val", "test": "test"}


@dataclass
class RawCaptions:
    """What a raw folder holds, under the file names of the images; `notes` says what was repaired or left out.

    splits {"train" | "val" | "test": [name, ...]} is empty where there is no official split.
    """

    source: str
    captions: dict[str, list[str]] = field(default_factory=dict)
    splits: dict[str, list[str]] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    image_dir: Path = field(kw_only=True)
    archives: list[Path] = field(default_factory=list)  # that the images come from
    listing: list = field(default_factory=list)  # where no file lists them: what a change is noticed by
    split_key: Callable[[str], str] = str  # what a hashed split goes by: the name as it is, or what a reader sets

    def add(self, name: str, caption: str) -> None:
        """Keep a caption, cleaned; an image whose captions are all empty still counts as named.

        Raises TypeError and ValueError for what is no text.
        """
        captions = self.captions.setdefault(checked_text("image", name).strip(), [])
        if caption := clean_caption(checked_text("caption", caption)):
            captions.append(caption)

    def assign(self, name: str, split: str) -> None:
        """Raises ValueError for a split that nobody knows."""
        if split not in [*SPLIT_NAMES]:  # a list, as what is no text may have no hash
            raise ValueError(f"unknown split {split!r}, expected one of {', '.join(SPLIT_NAMES)}")
        self.splits.setdefault(SPLIT_NAMES[split], []).append(name.strip())


def checked_text(what: str, value: object) -> str:
    """The value, where it is text that can be written to a file."""
    if not isinstance(value, str):
        raise TypeError(f"expected text as {what}, got {str(value)[:60]}")
    if not is_utf8(value):
        raise ValueError(f"the {what} {shown(value)[:60]!r} holds half a character")
    return value


def clean_caption(caption: str) -> str:
    """Single spaces, and none before a punctuation mark: "grass ." -> "grass."."""
    return re.sub(r" ([,.!?;:])(?=\s|$)", r"\1", " ".join(caption.split()))
