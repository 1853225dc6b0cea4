"""A split's pictures with their references, for what captions and scores them.

pictures = split_pictures(None, "val", settings)     # of the data that the settings name
pictures = split_pictures("PATH", "test", settings)  # of a dataset as downloaded, or of a prepared folder
"""

from dataclasses import dataclass
from pathlib import Path

from basics.errors import UserError
from basics.settings import Settings, constants
from sources.images import ImageError, load_image
from sources.kinds import data_kind
from sources.prepared import FolderSplit, PreparedData, Split, is_prepared, read_prepared
from sources.shards.picture import Picture


@dataclass
class Pictures:
    """What is captioned and scored; `left_out` has a line for each picture that could not be read."""

    split: str
    paths: list[Picture]
    references: list[list[str]]
    left_out: list[str]


def split_pictures(data_dir: str | None, split: str, settings: Settings) -> Pictures:
    """The split of a prepared folder, of a dataset as downloaded, or of what the settings name. Raises UserError.

    No picture is opened yet.
    """
    folder = existing_data(Path(data_dir).expanduser() if data_dir else settings.data_path)
    prepared = [path for path in (folder, folder / settings.data_path.name) if is_prepared(path)]
    found = read_prepared(prepared[0]).split(split) if prepared else raw_split(folder, split, settings)
    if not len(found):
        raise UserError(f"the {split} split of {prepared[0] if prepared else folder} is empty; choose another --split")
    refuse_other_kind(found, prepared[0] if prepared else folder, settings)
    return Pictures(split, all_pictures(found), [*found.references], [])


def all_pictures(split: Split) -> list[Picture]:
    return [split.picture(number) for number in range(len(split))]


def existing_data(folder: Path) -> Path:
    """The folder, which must be there. Raises UserError."""
    if not folder.is_dir():
        there = sorted(str(path.parent) for path in Path(constants().DATA_DIR).glob("*/dataset.json"))
        hint = f", such as {', '.join(there)}" if there else ""
        raise UserError(f"there is no data in {folder}; name a dataset with --data-dir{hint}")
    return folder


def refuse_other_kind(split: Split, folder: Path, settings: Settings) -> None:
    """Raises UserError where these are not the pictures that TASK is scored with."""
    kind = data_kind(settings)
    if problem := next(filter(None, map(kind.problem, split.counts.tolist())), ""):
        raise UserError(f"{folder} is no data of TASK {settings.TASK!r}: a picture has {problem}; name other data")


def raw_split(folder: Path, split: str, settings: Settings) -> FolderSplit:
    """A dataset as downloaded; where it has no splits at all, all of it is the split that was asked for."""
    raw = data_kind(settings).read(folder, Path(constants().DATA_DIR) / "evaluated")  # archives are unpacked there
    if not raw.splits:
        print(f"data         {folder} has no splits of its own: all of its pictures are scored")
        names = [name for name, captions in raw.captions.items() if captions]
        return PreparedData(raw.captions, {split: names}, raw.image_dir).split(split)
    if split not in raw.splits:
        raise UserError(f"{folder} has the splits {', '.join(raw.splits)}, no {split}; choose another --split")
    names = [name for name in raw.splits[split] if raw.captions.get(name)]
    return PreparedData(raw.captions, {split: names}, raw.image_dir).split(split)


def readable_pictures(pictures: Pictures) -> Pictures:
    """Those that can be read, which decodes each of them once; the others are left out."""
    errors = [reading_error(path) for path in pictures.paths]
    return leave_out(pictures, errors)


def reading_error(path: Picture) -> str | None:
    try:
        load_image(path)
    except ImageError as error:
        return str(error)
    return None


def leave_out(pictures: Pictures, errors: list[str | None]) -> Pictures:
    """The pictures without those that have an error. Raises UserError where all have one."""
    good = [i for i, error in enumerate(errors) if error is None]
    left_out = [error for error in errors if error is not None]
    if not good:
        raise UserError(f"none of the {len(errors)} pictures can be read: {left_out[0]}")
    return Pictures(
        pictures.split,
        [pictures.paths[i] for i in good],
        [pictures.references[i] for i in good],
        [*pictures.left_out, *left_out],
    )


def spread(count: int, total: int) -> list[int]:
    """At most count numbers below total, evenly spread and always the same."""
    count = min(count, total)
    return [i * total // count for i in range(count)]
