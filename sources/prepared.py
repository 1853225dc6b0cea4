"""Prepared data as it lies in DATA_DIR/<DATASET>/: captions.json, splits.json and dataset.json.

data = read_prepared(Path("data/flickr8k"))
data.captions_of("train")    ["A dog runs.", ...]
"""

from dataclasses import dataclass
from pathlib import Path

from basics.errors import UserError, reason_of
from basics.paths import is_utf8, shown
from sources.splits import SPLITS
from sources.text_files import parse_json

NAMES: dict[type, str] = {str: "a text", dict: "an object"}


@dataclass
class PreparedData:
    """captions {name: [caption, ...]}, splits {"train" | "val" | "test": [name, ...]}, folder of the images."""

    captions: dict[str, list[str]]
    splits: dict[str, list[str]]
    image_dir: Path

    def captions_of(self, split: str) -> list[str]:
        return [caption for name in self.splits[split] for caption in self.captions[name]]


def is_prepared(data_path: Path) -> bool:
    return all((data_path / name).is_file() for name in ("captions.json", "splits.json", "dataset.json"))


def read_prepared(data_path: Path) -> PreparedData:
    """The files as they lie there. Raises UserError when they are damaged or the images have moved."""
    captions, splits = (read_lists(data_path / name) for name in ("captions.json", "splits.json"))
    image_dir = data_path / read_json(data_path / "dataset.json", {"image_dir": str})["image_dir"]  # or absolute
    named = [name for names in splits.values() for name in names]
    if unknown := [name for name in named if name not in captions]:
        raise UserError(f"{data_path}/splits.json names {shown(unknown[0])}, which captions.json does not hold")
    if without := [name for name in named if not captions[name]]:
        raise UserError(
            f"{data_path}/captions.json has no caption for {shown(without[0])}, which stands in splits.json"
        )
    if not image_dir.is_dir():
        raise UserError(
            f"the images of {data_path} were in {image_dir}, which is gone; put them back, or name the folder "
            "with --raw-dir"
        )
    return PreparedData(captions, {split: splits.get(split, []) for split in SPLITS}, image_dir)


def read_json(path: Path, keys: dict[str, type]) -> dict:
    """An object that has the keys, with values of these types. Raises UserError when it is anything else."""
    content = read_object(path)
    for key, kind in keys.items():
        if not isinstance(content.get(key), kind):
            raise damaged(path, f"expected {key}, {NAMES[kind]}")
    return content


def read_lists(path: Path) -> dict[str, list[str]]:
    """An object of lists of texts. Raises UserError when it is anything else."""
    content = read_object(path)
    for name, texts in content.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise damaged(path, f"expected a list of texts as {shown(name)}")
        if not is_utf8("".join([name, *texts])):
            raise damaged(path, f"half a character in {shown(name)}")
    return content


def read_object(path: Path) -> dict:
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, reason_of(error)) from error
    if not isinstance(content, dict):
        raise damaged(path, "expected an object")
    return content


def damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is damaged ({reason}); delete {path.parent}/dataset.json and prepare again")
