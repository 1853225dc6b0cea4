"""captions.csv, captions.tsv and Kaggle's captions.txt: tables with a header."""

from basics.errors import UserError
from sources.raw_captions import RawCaptions
from sources.text_files import at, column, table_rows


def read_table(raw: RawCaptions) -> None:
    """Columns image and caption, under these or kindred names, and split where there is one."""
    path = raw.files[0]
    delimiter = "\t" if path.suffix == ".tsv" else ","
    rows = table_rows(path, delimiter)
    _, header = next(rows, (0, []))
    image = column(header, ("image", "file_name", "filename", "image_name"), path)
    caption = column(header, ("caption", "text", "comment"), path)
    split = next((i for i, title in enumerate(header) if title.strip().lower() == "split"), None)
    last = caption == len(header) - 1  # an unquoted caption may hold commas: all that follows belongs to it
    for number, row in rows:
        if len(row) < len(header) or not last and any(part.strip() for part in row[len(header) :]):
            quote = "" if len(row) < len(header) else "; put quotes around a caption that holds commas"
            raise UserError(f"{path}, line {number}: {len(row)} columns, expected {len(header)}{quote}")
        with at(f"{path}, line {number}"):
            raw.add(row[image], delimiter.join(row[caption:]) if last else row[caption])
            if split is not None:
                raw.assign(row[image], row[split].strip())
