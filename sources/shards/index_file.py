"""index.json, which write_shards.py puts beside shards: what each holds, and its checksum.

{"format": 1, "shards": [{"name": "train-000000.tar", "samples": 100, "captions": 500, "bytes": ..., "sha256": ...}]}
"""

import re
from pathlib import Path
from typing import TypedDict

from basics.errors import UserError, reason_of
from basics.paths import shown
from basics.stored import COUNT, Number, check, parse_json
from basics.text import json_text

INDEX = "index.json"
SHARD = {"name": str, "samples": COUNT, "captions": COUNT, "bytes": COUNT, "sha256": str}
PATTERN = {"format": Number(int, 1, 1), "shards": [SHARD]}


class Listed(TypedDict):
    """A shard as its index has it."""

    name: str
    samples: int
    captions: int
    bytes: int
    sha256: str


def index_text(shards: list[Listed]) -> str:
    return json_text({"format": 1, "shards": shards})


def read_index(path: Path) -> dict[str, Listed]:
    return parse_index(path.read_bytes(), str(path))


def parse_index(content: bytes, place: str) -> dict[str, Listed]:
    """The shards by name. Raises UserError for anything but an index."""
    try:
        index = parse_json(content, INDEX)
        check(index, PATTERN, INDEX)
        for shard in index["shards"]:
            if not re.fullmatch(r"[^/\\\0]+\.tar", shard["name"]):
                raise ValueError(f"{shown(shard['name'])!r} is no name of a shard")
    except ValueError as error:
        raise UserError(
            f"{place} is no index of shards ({reason_of(error)}); remove it, or make the shards anew"
        ) from error
    return {shard["name"]: shard for shard in index["shards"]}
