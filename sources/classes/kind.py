"""Pictures with one class each, as preparing sees them (sources/kinds.py): a picture's one text is its class.

data = prepare(settings, Classes(settings.DATASET))
classes_of(data)        # ["cat", "dog"]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from basics.errors import UserError
from basics.paths import shown
from basics.settings import Settings
from sources.classes.reading import read_classes
from sources.classes.report import class_lines, class_notes, count_classes
from sources.prepared import AnyData
from sources.raw_captions import RawCaptions
from sources.shapes import draw_single_shapes
from sources.splits import SPLITS


def classes_of(data: AnyData) -> list[str]:
    """The classes of all splits, sorted."""
    return sorted({label for split in SPLITS for label in data.split(split).captions})


@dataclass(frozen=True)
class Classes:
    """dataset: DATASET, which says what is meant where a folder holds several."""

    dataset: str = "folder"

    text_files = ("txt", "cls")

    def read(self, raw_dir: Path, data_path: Path) -> RawCaptions:
        return read_classes(raw_dir, data_path, self.dataset)

    def draw(self, image_dir: Path, num_images: int, seed: int) -> dict[str, list[str]]:
        return draw_single_shapes(image_dir, num_images, seed)

    def problem(self, num_texts: int) -> str:
        return "" if num_texts == 1 else f"{num_texts} texts, expected one class"

    def refuse_useless(self, training_texts: Sequence[str]) -> None:
        labels = {*training_texts}
        if len(labels) < 2:
            only = shown(min(labels, default="none"))
            raise UserError(
                f"all training pictures are of one class, {only}; a classifier needs two or more, each a folder, or a "
                "word in a table's column"
            )

    def stays(self, settings: Settings) -> str:
        return ""

    def count(self, data: AnyData, settings: Settings) -> dict:
        self.refuse_useless(data.captions_of("train"))  # once more, without the bad pictures
        return count_classes(data)

    def lines(self, report: dict) -> list[str]:
        return class_lines(report["pictures_of_class"])

    def notes(self, data: AnyData, hashes: dict[str, str]) -> list[str]:
        return class_notes(data, hashes)

    def listed(self, data: AnyData) -> dict:
        return {"classes": classes_of(data)}
