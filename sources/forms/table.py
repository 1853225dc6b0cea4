"""captions.csv, captions.tsv and Kaggle's captions.txt: tables with a header."""

from basics.errors import UserError
from sources.raw_captions import RawCaptions
from sources.text_files import column, table_rows


def read_table(raw: RawCaptions) -> None:
    """Columns image and caption, under these or kindred names, and split where there is one."""
    path = raw.files[0]
    rows = table_rows(path, "\t" if path.suffix == ".tsv" else ",")
    _, header = next(rows, (0, []))
    image = column(header, ("image", "file_name", "filename", "image_name"), path)
    caption = column(header, ("caption", "text", "comment"), path)
    split = next((i for i, title in enumerate(header) if title.strip().lower() == "split"), None)
    last = caption == len(header) - 1  # an unquoted caption may hold commas: all that follows belongs to it
    splits: dict[str, str] = {}
    for number, row in rows:
        if len(row) < len(header):
            raise UserError(f"{path}, line {number}: {len(row)} columns, expected {len(header)}")
        raw.add(row[image], ",".join(row[caption:]) if last else row[caption])
        if split is not None:
            splits[row[image].strip()] = row[split].strip()
    for name, value in splits.items():
        raw.assign(name, value)
