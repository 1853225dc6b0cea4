"""Tables of pictures and their classes: any .csv or .tsv whose header has a column of each.

tables = class_tables(Path("downloads/flowers"))        # [labels.csv], or train.csv and test.csv
raw = read_class_tables(tables)
"""

from pathlib import Path

from basics.errors import UserError
from basics.paths import no_regular_file, shown
from sources.classes.folders import CLASS_SPLITS, is_hidden
from sources.raw_captions import RawCaptions, checked_text
from sources.reading import keep_one_split_each
from sources.text_files import at, column, table_rows

OF_IMAGES = ("image", "file", "filename", "file_name", "image_name", "path", "filepath", "file_path", "image_path")
OF_CLASSES = ("label", "class", "category", "class_name", "label_name")
LONGEST_HEADER = 2**16  # characters


def class_tables(raw_dir: Path) -> list[Path]:
    """The table of classes, or one for each split and named by it; [] where there is none. Raises UserError."""
    tables = [path for path in sorted(raw_dir.iterdir()) if is_class_table(path)]
    if len(tables) > 1 and any(path.stem.lower() not in CLASS_SPLITS for path in tables):
        raise UserError(
            f"{raw_dir} holds several tables of classes, {', '.join(shown(path.name) for path in tables)}; leave one, "
            "or call them train.csv, val.csv and test.csv"
        )
    return tables


def is_class_table(path: Path) -> bool:
    if path.suffix not in (".csv", ".tsv") or is_hidden(path.name) or not path.exists() or no_regular_file(path):
        return False
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        header = file.readline(LONGEST_HEADER).strip().split(delimiter_of(path))
    titles = {title.strip().strip('"').lower() for title in header}
    return bool(titles & {*OF_IMAGES}) and bool(titles & {*OF_CLASSES})


def delimiter_of(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","


def read_class_tables(tables: list[Path]) -> RawCaptions:
    raw = RawCaptions("a table of classes", files=tables, image_dir=tables[0].parent)
    places: dict[str, str] = {}
    for path in tables:
        read_class_table(raw, path, CLASS_SPLITS.get(path.stem.lower()), places)
    if without := [name for name, labels in raw.captions.items() if not labels]:
        raw.captions = {name: labels for name, labels in raw.captions.items() if labels}
        raw.notes.append(f"{len(without):,} images without a class left out, {shown(without[0])} first")
    if not raw.captions:
        raise UserError(f"{tables[0]} holds no pictures with a class")
    keep_one_split_each(raw)
    return raw


def read_class_table(raw: RawCaptions, path: Path, split_of_file: str | None, places: dict[str, str]) -> None:
    """places: the line where each picture was named first. Raises UserError where one has two classes."""
    rows = table_rows(path, delimiter_of(path))
    _, header = next(rows, (0, []))
    image, label = column(header, OF_IMAGES, path), column(header, OF_CLASSES, path)
    split = next((i for i, title in enumerate(header) if title.strip().lower() == "split"), None)
    for number, row in rows:
        place = f"{path}, line {number}"
        if len(row) < len(header) or any(part.strip() for part in row[len(header) :]):
            raise UserError(f"{place}: {len(row)} columns, expected {len(header)}")
        with at(place):
            name = checked_text("image", row[image]).strip()
            text = " ".join(checked_text("class", row[label]).split())
            if not name:
                raise ValueError("no picture is named")
            labels = raw.captions.setdefault(name, [text] if text else [])
            if text and labels != [text]:
                raise ValueError(
                    f"{name} is {text!r} here and {(labels or [''])[0]!r} in {places[name]}; keep one of them"
                )
            places.setdefault(name, place)
            if split is not None:
                named = row[split].strip()
                raw.assign(name, CLASS_SPLITS.get(named.lower(), named))
            elif split_of_file:
                raw.assign(name, split_of_file)
