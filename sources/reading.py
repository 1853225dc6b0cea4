"""Raw folders recognised by looking, and read into one form.

    raw = read_captions(Path("downloads/flickr8k"), Path("data/flickr8k"))
    raw.captions    {"image file name": ["caption", ...]}
    raw.splits      {"train": [...], "val": [...], "test": [...]}, empty where there is no official split

Archives of images are unpacked into the data folder, never into the raw one.
"""

import csv
from pathlib import Path

from basics.errors import UserError
from sources.forms.registry import FORMS, Form
from sources.image_folder import find_images
from sources.raw_captions import RawCaptions


def read_captions(raw_dir: Path, data_path: Path) -> RawCaptions:
    """Recognise the raw folder and read it. Raises UserError when no known form is found or a file is malformed."""
    form, files = recognise(raw_dir)
    raw = RawCaptions(form.name, files=files, image_dir=files[0].parent)
    try:
        form.read(raw)
    except (csv.Error, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{files[0]} is no {form.name}: {type(error).__name__} {error}") from error
    leave_out_uncaptioned(raw)
    find_images(raw, raw_dir, data_path)
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
        raw.notes.append(f"{len(empty):,} images without a caption left out, {empty[0]} first")
    if not raw.captions:
        raise UserError(f"{raw.files[0]} holds no captions")
