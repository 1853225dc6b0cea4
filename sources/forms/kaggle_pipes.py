"""results.csv: Kaggle's Flickr30k."""

import re

from basics.errors import UserError
from sources.raw_captions import RawCaptions
from sources.text_files import lines_of


def read_kaggle_pipes(raw: RawCaptions) -> None:
    """`image_name| comment_number| comment`, where one row lacks its second separator."""
    rows = [(number, line.split("|", 2)) for number, line in lines_of(raw.files[0])]
    for number, row in rows[1:]:
        if len(row) == 2 and (match := re.match(r"\s*\d+\s+(.+)", row[1])):
            raw.notes.append(f"line {number} repaired: {'|'.join(row)!r} lacked a separator")
            row = [row[0], "", match[1]]
        if len(row) != 3:
            raise UserError(f"{raw.files[0]}, line {number}: expected 'image_name| comment_number| comment', got {row}")
        raw.add(row[0], row[2])
