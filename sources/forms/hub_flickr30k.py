"""flickr_annotations_30k.csv: Flickr30k as nlphuji/flickr30k of the Hub has it."""

import json

from sources.raw_captions import RawCaptions
from sources.text_files import column, table_rows


def read_hub_flickr30k(raw: RawCaptions) -> None:
    """A JSON list of captions, a split and a file name a row."""
    rows = table_rows(raw.files[0], ",")
    _, header = next(rows)
    captions, split, name = (column(header, (title,), raw.files[0]) for title in ("raw", "split", "filename"))
    for _, row in rows:
        for caption in json.loads(row[captions]):
            raw.add(row[name], caption)
        raw.assign(row[name], row[split])
