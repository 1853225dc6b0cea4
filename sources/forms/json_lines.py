"""captions.jsonl: one object a line."""

from basics.stored import parse_json
from sources.raw_captions import RawCaptions
from sources.text_files import at, lines_of, texts_in


def read_json_lines(raw: RawCaptions) -> None:
    """{"image" or "file_name": ..., "caption" or "text" or "captions": ..., "split": ...} a line."""
    for number, line in lines_of(raw.files[0]):
        with at(f"{raw.files[0]}, line {number}", '{"image": ..., "caption": ...}'):
            row = parse_json(line, "the line")
            name = row.get("image") or row["file_name"]
            captions = row.get("captions") or [row["text"] if "text" in row else row["caption"]]
            for caption in texts_in(captions):
                raw.add(name, caption)
            if "split" in row:
                raw.assign(name, row["split"])
