"""captions.jsonl: one object a line."""

import json

from basics.errors import UserError
from sources.raw_captions import RawCaptions
from sources.text_files import text_of


def read_json_lines(raw: RawCaptions) -> None:
    """{"image" or "file_name": ..., "caption" or "text" or "captions": ..., "split": ...} a line."""
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
