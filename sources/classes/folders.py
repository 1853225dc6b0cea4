"""Class folders: cat/1.jpg and dog/1.jpg, or train/cat/1.jpg, val/cat/2.jpg, test/cat/3.jpg.

root = class_root(Path("downloads/pets"))       # where they lie; None where there are none
raw = read_class_folders(root)
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from basics.errors import UserError
from basics.files import file_hash
from basics.paths import is_utf8, no_regular_file, shown
from sources.archives import UNPACKED
from sources.images import IMAGE_SUFFIXES
from sources.raw_captions import SPLIT_NAMES, RawCaptions

CLASS_SPLITS = {**SPLIT_NAMES, "valid": "val", "training": "train", "testing": "test"}  # names of folders, of tables

LeftOut = dict[str, list[str]]  # what is not read: names, by what they are


def class_root(folder: Path) -> Path | None:
    """The folder, or the only one with pictures in it, and so on down, that holds class folders or those of splits."""
    if split_folders(folder):
        return folder
    full = [path for path in subfolders(folder) if holds_pictures(path)]
    if len(full) == 1 and any(map(holds_pictures, subfolders(full[0]))):
        return class_root(full[0])
    return folder if full else None


def split_folders(folder: Path) -> dict[Path, str]:
    """{folder: split} of train/, val/, test/; one that holds pictures but no class folders is a class of that name."""
    named = [path for path in subfolders(folder) if path.name.lower() in CLASS_SPLITS]
    return {path: CLASS_SPLITS[path.name.lower()] for path in named if any(map(holds_pictures, subfolders(path)))}


def read_class_folders(root: Path) -> RawCaptions:
    """Every picture under its folder's name, at any depth; splits are by what a file holds, not by its name."""
    raw = RawCaptions("class folders", image_dir=root)
    raw.split_key = lambda name: content_key(root / name)
    left_out: LeftOut = defaultdict(list)
    digest, splits = hashlib.sha256(), split_folders(root)
    for folder in splits or [root]:
        names = []
        for name, label, size in labelled_pictures(folder, root, left_out):
            raw.captions[name] = [label]
            names.append(name)
            digest.update(f"{name}\0{size}\0".encode())
        if splits:
            raw.splits.setdefault(splits[folder], []).extend(names)
    raw.listing = [len(raw.captions), digest.hexdigest()]
    if splits and (others := [f"{path.name}/" for path in subfolders(root) if path not in splits]):
        left_out["folders beside those of the splits"] = others
    raw.notes += [f"{len(names):,} {kind}: not read, {shown(names[0])} first" for kind, names in left_out.items()]
    return raw


def labelled_pictures(folder: Path, root: Path, left_out: LeftOut) -> Iterator[tuple[str, str, int]]:
    """(name from the root, class, bytes) of each picture in the class folders of a folder."""
    start = len(os.path.join(root, ""))
    for path in sorted(folder.iterdir()):
        if not path.is_dir():
            left_out["files outside of the class folders"].append(str(path)[start:])
    for class_folder in subfolders(folder):
        if not is_utf8(class_folder.name):
            raise UserError(f"{shown(class_folder)}: the name of this class is no UTF-8; rename the folder")
        found = 0
        for place in files_in(class_folder):
            name = place[start:]
            if other := other_than_picture(name):
                left_out[other].append(name)
                continue
            found += 1
            yield name, class_folder.name, os.lstat(place).st_size
        if not found:
            left_out["class folders without a picture"].append(f"{str(class_folder)[start:]}/")


def other_than_picture(name: str) -> str:
    """What files of this name are instead, "" where they are pictures."""
    if is_hidden(os.path.basename(name)):
        return "hidden files"
    if not is_picture(name):
        return "files that are no pictures by their suffix"
    return "" if is_utf8(name) else "pictures whose names are no UTF-8"


def subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


def files_in(folder: Path) -> Iterator[str]:
    """At any depth, always in the same order."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield from (os.path.join(place, name) for name in sorted(files))


def holds_pictures(folder: Path) -> bool:
    return any(not other_than_picture(place) for place in files_in(folder))


def is_hidden(name: str) -> bool:
    """What systems put there and nobody sees; and what unpack() makes, where the data lie in the raw folder."""
    return name.startswith((".", "__MACOSX")) or UNPACKED.fullmatch(name) is not None


def is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def content_key(path: Path) -> str:
    """The same for the same file under any name; what cannot be read is left out later."""
    try:
        return path.name if no_regular_file(path) else file_hash(path)
    except OSError:
        return path.name
