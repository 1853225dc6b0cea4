"""flickr_annotations_30k.csv: Flickr30k as nlphuji/flickr30k of the Hub has it."""

from basics.stored import parse_json
from sources.raw_captions import RawCaptions
from sources.text_files import at, column, table_rows, texts_in


def read_hub_flickr30k(raw: RawCaptions) -> None:
    """A JSON list of captions, a split and a file name a row."""
    path = raw.files[0]
    rows = table_rows(path, ",")
    _, header = next(rows, (0, []))
    captions, split, name = (column(header, (title,), path) for title in ("raw", "split", "filename"))
    for number, row in rows:
        with at(f"{path}, line {number}"):
            for caption in texts_in(parse_json(row[captions], "the column")):
                raw.add(row[name], caption)
            raw.assign(row[name], row[split])
