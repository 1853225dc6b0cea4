"""Raw folders recognised by looking, and read into one form.

    raw = read_captions(Path("downloads/flickr8k"), Path("data/flickr8k"))
    raw.captions    {"image file name": ["caption", ...]}
    raw.splits      {"train": [...], "val": [...], "test": [...]}, empty where there is no official split

Archives of images are unpacked into the data folder, never into the raw one.
"""

import csv
import os
from pathlib import Path

from basics.errors import UserError, reason_of
from basics.paths import is_utf8, shown
from sources.forms.registry import FORMS, Form
from sources.image_folder import find_images
from sources.raw_captions import RawCaptions
from sources.splits import SPLITS


def read_captions(raw_dir: Path, data_path: Path) -> RawCaptions:
    """Recognise the raw folder and read it. Raises UserError when no known form is found or a file is malformed."""
    form, files = recognise(raw_dir)
    raw = RawCaptions(form.name, files=files, image_dir=files[0].parent)
    try:
        form.read(raw)
    except UserError as error:  # which may quote what it found
        raise UserError(shown(str(error))) from error
    except (csv.Error, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{files[0]} is no {form.name}: {type(error).__name__} {shown(reason_of(error))}") from error
    leave_out_uncaptioned(raw)
    keep_one_split_each(raw)
    find_images(raw, raw_dir, data_path)
    refuse_outside(raw, raw_dir)
    return raw


def recognise(raw_dir: Path) -> tuple[Form, list[Path]]:
    """The first of FORMS that has caption files in the folder or just below, and these files."""
    for form in FORMS:
        for folder in (raw_dir, raw_dir / "annotations", *sorted(p for p in raw_dir.glob("*") if p.is_dir())):
            if files := sorted(folder.glob(form.pattern)):
                return form, files
    raise UserError(
        f"no captions recognised in {raw_dir}, which holds {listing(raw_dir)}; expected one of: "
        + "; ".join(f"{form.pattern} ({form.name})" for form in FORMS)
    )


def listing(folder: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    return (", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")) or "nothing"


def leave_out_uncaptioned(raw: RawCaptions) -> None:
    empty = [name for name, captions in raw.captions.items() if not captions]
    for name in empty:
        del raw.captions[name]
    if empty:
        raw.notes.append(f"{len(empty):,} images without a caption left out, {shown(empty[0])} first")
    if not raw.captions:
        raise UserError(f"{raw.files[0]} holds no captions")


def keep_one_split_each(raw: RawCaptions) -> None:
    """A picture that stands in several splits stays in the one that is looked at last; a note counts them."""
    taken: set[str] = set()
    several: dict[str, None] = {}
    for split in reversed([split for split in SPLITS if split in raw.splits]):
        names = dict.fromkeys(raw.splits[split])
        several |= {name: None for name in names if name in taken}
        raw.splits[split] = [name for name in names if name not in taken]
        taken |= names.keys()
    if several:
        raw.notes.append(
            f"{len(several):,} pictures stand in more than one split, {shown(next(iter(several)))} first: "
            "kept in test, else in val, and left out of the others"
        )


def refuse_outside(raw: RawCaptions, raw_dir: Path) -> None:
    """Raises UserError where a name leads out of the folder by itself; a link in the folder may lead anywhere."""
    allowed = [Path(os.path.abspath(folder)) for folder in (raw_dir, raw.image_dir)]
    for name in raw.captions:
        place = Path(os.path.abspath(raw.image_dir / name))
        if not any(place.is_relative_to(folder) for folder in allowed):
            raise UserError(
                f"{raw.files[0]} names the picture {shown(name)}, which is outside of {raw_dir}; put it, or a link to "
                "it, there and name it from there"
            )
    if not is_utf8(raw.image_dir):
        raise UserError(f"{shown(raw.image_dir)}: the name of this folder is no UTF-8; rename it")
