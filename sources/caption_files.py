"""Captions as people really have them: raw folders recognised by looking, and read into one form.

    raw = read_captions(Path("downloads/flickr8k"), Path("data/flickr8k"))
    raw.captions    {"image file name": ["caption", ...]}
    raw.splits      {"train": [...], "val": [...], "test": [...]}, empty where there is no official split

Each form is a row of FORMS: the pattern of its caption file and a reader. Archives of images are unpacked into the data
folder, never into the raw one.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from basics.errors import UserError
from sources.archives import ARCHIVE_SUFFIXES, UNPACKED, unpack
from sources.images import IMAGE_SUFFIXES

IMAGE_FOLDERS = (
    "Images",
    "images",
    "Flicker8k_Dataset",
    "Flickr8k_Dataset",
    "flickr8k_images",
    "flickr30k_images",
    "flickr30k-images",
    "Flickr30k",
    "train2014",
    "val2014",
    "train2017",
    "val2017",
    "photos",
)
SPLIT_LISTS = {"train": "*trainImages.txt", "val": "*devImages.txt", "test": "*testImages.txt"}
SPLIT_NAMES = {"train": "train", "restval": "train", "val": "val", "dev": "val", "validation": "val", "test": "test"}


@dataclass
class RawCaptions:
    """What a raw folder holds; `notes` says what was repaired or left out."""

    source: str
    captions: dict[str, list[str]] = field(default_factory=dict)
    splits: dict[str, list[str]] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    image_dir: Path | None = None
    archives: list[Path] = field(default_factory=list)  # that the images come from

    def add(self, name: str, caption: str) -> None:
        """Keep a caption, cleaned; an image whose captions are all empty still counts as named."""
        captions = self.captions.setdefault(name.strip(), [])
        if caption := clean_caption(caption):
            captions.append(caption)

    def assign(self, name: str, split: str) -> None:
        if split not in SPLIT_NAMES:
            raise UserError(f"{self.files[0]}: unknown split {split!r}, expected one of {', '.join(SPLIT_NAMES)}")
        self.splits.setdefault(SPLIT_NAMES[split], []).append(name)


def clean_caption(caption: str) -> str:
    """Single spaces, and none before a punctuation mark: "grass ." -> "grass."."""
    return re.sub(r" ([,.!?;:])(?=\s|$)", r"\1", " ".join(caption.split()))


def read_captions(raw_dir: Path, data_path: Path) -> RawCaptions:
    """Recognise the raw folder and read it. Raises UserError when no known form is found or a file is malformed."""
    for form in FORMS:
        for folder in (raw_dir, raw_dir / "annotations", *sorted(p for p in raw_dir.glob("*") if p.is_dir())):
            if files := sorted(folder.glob(form.pattern)):
                raw = RawCaptions(form.name, files=files)
                try:
                    form.read(raw)
                except (csv.Error, ValueError, LookupError, TypeError, AttributeError) as error:
                    raise UserError(f"{files[0]} is no {form.name}: {type(error).__name__} {error}") from error
                return finish(raw, raw_dir, data_path)
    raise UserError(
        f"no captions recognised in {raw_dir}, which holds {listing(raw_dir)}; expected one of: "
        + "; ".join(f"{form.pattern} ({form.name})" for form in FORMS)
    )


def finish(raw: RawCaptions, raw_dir: Path, data_path: Path) -> RawCaptions:
    empty = [name for name, captions in raw.captions.items() if not captions]
    for name in empty:
        del raw.captions[name]
    if empty:
        raw.notes.append(f"{len(empty):,} images without a caption left out, {empty[0]} first")
    if not raw.captions:
        raise UserError(f"{raw.files[0]} holds no captions")
    raw.image_dir = find_images(raw, raw_dir, data_path)
    return raw


def listing(folder: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    return (", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")) or "nothing"


def find_images(raw: RawCaptions, raw_dir: Path, data_path: Path) -> Path:
    """The folder that holds the most of the first named images; an archive is unpacked where no folder has any."""
    sample = list(raw.captions)[:200]

    def count(folder: Path) -> int:
        return sum((folder / name).is_file() for name in sample)

    folders = [raw.files[0].parent, raw_dir, *(raw_dir / name for name in IMAGE_FOLDERS)]
    folders += [path for path in sorted(raw_dir.glob("*/")) + sorted(raw_dir.glob("*/*/")) if path not in folders]
    best = max((path for path in folders if not any(map(UNPACKED.fullmatch, path.parts))), key=count)
    if count(best):
        return best
    archives = sorted(p for p in raw_dir.iterdir() if p.name.endswith(ARCHIVE_SUFFIXES))
    if archives:  # all of them: COCO comes in one a split
        raw.archives, unpacked = archives, unpack(archives, data_path)
        old = [path for path in data_path.iterdir() if UNPACKED.fullmatch(path.name) and path != unpacked]
        raw.notes += [f"{path} holds the pictures of other archives and is not used; delete it" for path in sorted(old)]
        best = max([unpacked, *sorted(p for p in unpacked.rglob("*") if p.is_dir())], key=count)
        if count(best):
            return best
    raise UserError(
        f"none of the images named in {raw.files[0]} ({sample[0]} first) is in {raw_dir}; put the pictures, "
        f"or their archive, there (for example into {raw_dir / 'Images'})"
    )


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8; save it as UTF-8") from None


def table_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each row that is not empty."""
    reader = csv.reader(io.StringIO(text_of(path), newline=""), delimiter=delimiter)
    for row in reader:
        if any(part.strip() for part in row):
            yield reader.line_num, row


def column(header: list[str], names: tuple[str, ...], path: Path) -> int:
    for i, title in enumerate(header):
        if title.strip().lower() in names:
            return i
    raise UserError(f"{path} has the columns {', '.join(header)}; expected one named {' or '.join(names)}")


def read_token_file(raw: RawCaptions) -> None:
    """`name.jpg#0<TAB>caption`: Flickr8k as shipped, Flickr30k's results_20130124.token; split lists beside it."""
    path = raw.files[0]
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if line.strip():
            key, tab, caption = line.partition("\t")
            if not tab:
                raise UserError(f"{path}, line {number}: expected 'name.jpg#0<TAB>caption', got {line[:60]!r}")
            raw.add(key.rpartition("#")[0] or key, caption)
    for split, pattern in SPLIT_LISTS.items():
        for split_list in sorted(path.parent.glob(pattern)):
            raw.files.append(split_list)
            raw.splits.setdefault(split, []).extend(text_of(split_list).split())


def read_pipe_file(raw: RawCaptions) -> None:
    """`image_name| comment_number| comment` (Kaggle's Flickr30k), where one row lacks its second separator."""
    rows = [line.split("|", 2) for line in text_of(raw.files[0]).splitlines() if line.strip()]
    for number, row in enumerate(rows[1:], 2):
        if len(row) == 2 and (match := re.match(r"\s*\d+\s+(.+)", row[1])):
            raw.notes.append(f"line {number} repaired: {'|'.join(row)!r} lacked a separator")
            row = [row[0], "", match[1]]
        if len(row) != 3:
            raise UserError(f"{raw.files[0]}, line {number}: expected 'image_name| comment_number| comment', got {row}")
        raw.add(row[0], row[2])


def read_table(raw: RawCaptions) -> None:
    """captions.csv, captions.tsv and Kaggle's captions.txt: columns image and caption, split where there is one."""
    path = raw.files[0]
    rows = table_rows(path, "\t" if path.suffix == ".tsv" else ",")
    _, header = next(rows, (0, []))
    image = column(header, ("image", "file_name", "filename", "image_name"), path)
    caption = column(header, ("caption", "text", "comment"), path)
    split = next((i for i, title in enumerate(header) if title.strip().lower() == "split"), None)
    splits: dict[str, str] = {}
    for number, row in rows:
        if len(row) < len(header):
            raise UserError(f"{path}, line {number}: {len(row)} columns, expected {len(header)}")
        # an unquoted caption may hold commas itself: all that follows the last column belongs to it
        last = caption == len(header) - 1
        raw.add(row[image], ",".join(row[caption:]) if last else row[caption])
        if split is not None:
            splits[row[image].strip()] = row[split].strip()
    for name, value in splits.items():
        raw.assign(name, value)


def read_json_lines(raw: RawCaptions) -> None:
    """One object a line: {"image" or "file_name": ..., "caption" or "text" or "captions": ..., "split": ...}."""
    splits: dict[str, str] = {}
    for number, line in enumerate(text_of(raw.files[0]).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name = row.get("image") or row["file_name"]
            captions = row.get("captions") or [row["text"] if "text" in row else row["caption"]]
        except (ValueError, KeyError, AttributeError) as error:
            raise UserError(
                f'{raw.files[0]}, line {number}: expected {{"image": ..., "caption": ...}} ({error})'
            ) from None
        for caption in captions:
            raw.add(name, caption)
        if "split" in row:
            splits[name] = row["split"]
    for name, value in splits.items():
        raw.assign(name, value)


def read_karpathy(raw: RawCaptions) -> None:
    """Karpathy's dataset_flickr8k.json, dataset_flickr30k.json, dataset_coco.json, splits included."""
    for image in json.loads(text_of(raw.files[0]))["images"]:
        name = "/".join(part for part in (image.get("filepath"), image["filename"]) if part)
        for sentence in image["sentences"]:
            raw.add(name, sentence["raw"])
        raw.assign(name, image["split"])


def read_coco(raw: RawCaptions) -> None:
    """COCO's captions_train2017.json and captions_val2017.json: images in folders named like the file."""
    for path in raw.files:
        content = json.loads(text_of(path))
        part = path.stem.removeprefix("captions_")  # "train2017"
        names = {image["id"]: f"{part}/{image['file_name']}" for image in content["images"]}
        for annotation in content["annotations"]:
            raw.add(names[annotation["image_id"]], annotation["caption"])
        for name in names.values():
            raw.assign(name, "train" if part.startswith("train") else "val")


def read_hub_flickr30k(raw: RawCaptions) -> None:
    """nlphuji/flickr30k: flickr_annotations_30k.csv with a JSON list of captions, a split and a file name a row."""
    rows = table_rows(raw.files[0], ",")
    _, header = next(rows)
    captions, split, name = (column(header, (title,), raw.files[0]) for title in ("raw", "split", "filename"))
    for _, row in rows:
        for caption in json.loads(row[captions]):
            raw.add(row[name], caption)
        raw.assign(row[name], row[split])


def read_text_files(raw: RawCaptions) -> None:
    """photo.jpg beside photo.txt, a caption a line."""
    pictures = {path.stem: path.name for path in raw.files[0].parent.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
    raw.files = [path for path in raw.files if path.stem in pictures]
    if not raw.files:
        raise UserError(
            "text files, but none with the name of a picture: expected photo.jpg and photo.txt side by side"
        )
    for path in raw.files:
        for line in text_of(path).splitlines() or [""]:
            raw.add(pictures[path.stem], line)


@dataclass(frozen=True)
class Form:
    name: str
    pattern: str
    read: Callable[[RawCaptions], None]


FORMS = (  # the first that matches; the most telling names first
    Form("Karpathy's JSON", "dataset_*.json", read_karpathy),
    Form("Flickr30k of the Hub", "flickr_annotations_30k.csv", read_hub_flickr30k),
    Form("COCO captions", "captions_*.json", read_coco),
    Form("Flickr8k as shipped", "Flickr8k.token.txt", read_token_file),
    Form("Flickr30k as shipped", "results*.token", read_token_file),
    Form("Kaggle's Flickr30k", "results.csv", read_pipe_file),
    Form("Kaggle's Flickr8k", "captions.txt", read_table),
    Form("a table of captions", "captions.csv", read_table),
    Form("a table of captions", "captions.tsv", read_table),
    Form("JSON lines of captions", "captions.jsonl", read_json_lines),
    Form("a text file a picture", "*.txt", read_text_files),
)
