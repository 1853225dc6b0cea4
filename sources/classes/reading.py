"""Raw folders of labelled pictures recognised by looking, and read into one form: each picture's text is its class.

raw = read_classes(Path("downloads/pets"), Path("data/folder-classify"), "folder")
raw.captions    {"cat/1.jpg": ["cat"], ...}
"""

from pathlib import Path

from basics.errors import UserError
from basics.paths import shown
from sources.archives import ARCHIVE_SUFFIXES, unpack
from sources.classes.cifar import CIFARS, FoundCifar, cifar_in, pixel_key, unpack_cifar
from sources.classes.folders import class_root, content_key, read_class_folders
from sources.classes.table import OF_CLASSES, OF_IMAGES, class_tables, read_class_tables
from sources.image_folder import find_images
from sources.raw_captions import RawCaptions
from sources.reading import listing, refuse_outside


def read_classes(raw_dir: Path, data_path: Path, dataset: str) -> RawCaptions:
    """A table of classes, else class folders, there or in an archive. Raises UserError where there is none."""
    try:
        return recognised(raw_dir, data_path, dataset)
    except UserError as error:  # which may quote what it found
        raise UserError(shown(str(error))) from error


def recognised(raw_dir: Path, data_path: Path, dataset: str) -> RawCaptions:
    if dataset in CIFARS and (found := cifar_in(raw_dir, dataset)):  # whatever else lies beside it
        return read_cifar(found, data_path)
    if tables := class_tables(raw_dir):
        raw = read_class_tables(tables)
        find_images(raw, raw_dir, data_path)
        refuse_outside(raw, raw_dir)
        raw.split_key = lambda name: content_key(raw.image_dir / name)
        return raw
    if root := class_root(raw_dir):
        return read_class_folders(root)
    if found := cifar_in(raw_dir, dataset):
        return read_cifar(found, data_path)
    return read_archive(raw_dir, data_path)


def read_cifar(found: FoundCifar, data_path: Path) -> RawCaptions:
    raw = read_class_folders(root := unpack_cifar(found, data_path))
    raw.source, raw.split_key = found.cifar.name, lambda name: pixel_key(root / name)
    return raw


def read_archive(raw_dir: Path, data_path: Path) -> RawCaptions:
    """Class folders in the only archive: two might be splits, of which one would overwrite the other."""
    archives = sorted(path for path in raw_dir.iterdir() if path.name.endswith(ARCHIVE_SUFFIXES))
    if len(archives) > 1:
        raise UserError(
            f"{raw_dir} holds {len(archives)} archives, {archives[0].name} first; unpack them, each split into a "
            "folder of its own (train/, val/, test/)"
        )
    root = class_root(unpack(archives, data_path)) if archives else None
    if root is None:
        raise UserError(nothing_found(raw_dir))
    raw = read_class_folders(root)
    raw.archives = archives
    return raw


def nothing_found(raw_dir: Path) -> str:
    other = [path.name for path in raw_dir.iterdir() if path.suffix in (".csv", ".tsv")]
    return (
        f"no classes recognised in {raw_dir}, which holds {listing(raw_dir)}; expected a folder a class with its "
        "pictures (cat/1.jpg), in train/, val/ and test/ or not; or labels.csv with the columns image and label; or "
        f"{' or '.join(cifar.folder for cifar in CIFARS.values())}"
        + (f" ({other[0]} has no columns {columns(OF_IMAGES)}, and {columns(OF_CLASSES)})" if other else "")
    )


def columns(names: tuple[str, ...]) -> str:
    return " or ".join(names[:3])
