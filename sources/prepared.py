"""Prepared data as it lies in DATA_DIR/<DATASET>/: captions.json, splits.json and dataset.json.

data = read_prepared(Path("data/flickr8k"))
data.captions_of("train")    ["A dog runs.", ...]
"""

from dataclasses import dataclass
from pathlib import Path

from basics.errors import UserError, reason_of
from basics.paths import is_utf8, shown
from basics.stored import Each, check, json_of
from sources.splits import SPLITS


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


def read_json(path: Path, pattern: dict | Each) -> dict:
    """What is like a pattern of basics/stored.py. Raises UserError when it is anything else."""
    try:
        content = json_of(path)
        check(content, pattern, path.name)
        return content  # type: ignore[no-any-return]  # check() has looked
    except (OSError, ValueError) as error:
        raise broken(path, reason_of(error)) from error


def read_lists(path: Path) -> dict[str, list[str]]:
    """An object of lists of texts. Raises UserError when it is anything else."""
    content = read_json(path, Each([str]))
    for name, texts in content.items():
        if not is_utf8("".join([name, *texts])):
            raise broken(path, f"half a character in {shown(name)}")
    return content


def broken(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is damaged ({reason}); delete {path.parent}/dataset.json and prepare again")
