"""Hostile captions files: seeded, each a raw folder that read_captions() must read right or refuse in one line.

for kind in CAPTIONS_FILES:
    path = write_captions_file(random.Random(7), folder, kind)
"""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

Write = Callable[[random.Random, Path], Path]
WORDS = (
    "a",
    "dog",
    '"',
    '""',
    ",",
    "\t",
    "\u2028",
    "\u0085",
    "é",
    "|",
    "#",
    "\\",
    "{",
    "\r",
    "'",
    "\x0b",
    "b.png",
    "\ufeff",
)
NAMES = (
    "a.png",
    "b.png",
    "",
    " ",
    "../a.png",
    "/etc/passwd",
    "x/../a.png",
    "a" * 300,
    "a\0b.png",
    "~/a.png",
    "gone.png",
)
VALUES: tuple[Any, ...] = (
    "a dog",
    "",
    None,
    3,
    1.5,
    True,
    [],
    {},
    ["a dog"],
    ["a", 3],
    [["a"]],
    {"a": 1},
    "\ud800",
    "a.png",
)


def caption(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(0, 6)))


def table(rng: random.Random, folder: Path) -> Path:
    """A CSV or TSV with quotes and separators anywhere, and rows too short or too long."""
    tabs = rng.random() < 0.5
    between = "\t" if tabs else ","
    columns = rng.choice((["image", "caption"], ["caption", "image"], ["image", "caption", "split"], ["image"], []))
    rows = [columns, *([field(rng, title) for title in columns] for _ in range(rng.randint(0, 8)))]
    for row in rows[1:]:
        if row and rng.random() < 0.1:
            rng.choice((row.pop, lambda row=row: row.append(caption(rng))))()
    text = "\n".join(between.join(row) for row in rows)
    return put(folder / ("captions.tsv" if tabs else "captions.csv"), text)


def field(rng: random.Random, title: str) -> str:
    if title == "image":
        return rng.choice(NAMES)
    return rng.choice(("train", "val", "test", "exam", "")) if title == "split" else caption(rng)


def json_lines(rng: random.Random, folder: Path) -> Path:
    """Objects with values of any type, and lines that are no objects."""
    lines = []
    for _ in range(rng.randint(0, 8)):
        row = {rng.choice(("image", "file_name")): rng.choice((*NAMES, *VALUES))}
        row[rng.choice(("caption", "text", "captions"))] = rng.choice(VALUES)
        if rng.random() < 0.3:
            row["split"] = rng.choice(("train", "val", *VALUES))
        lines.append(json.dumps(rng.choice((row, row, row, *VALUES)), ensure_ascii=rng.random() < 0.5))
    return put(folder / "captions.jsonl", "\n".join(lines))


def one_json(rng: random.Random, folder: Path) -> Path:
    """Karpathy's or COCO's JSON with values of any type."""
    name, value = (rng.choice((*NAMES, *VALUES)) for _ in range(2))
    karpathy = {"filename": name, "split": rng.choice(("train", *VALUES)), "sentences": [{"raw": value}]}
    content = rng.choice(
        (
            {"images": rng.choice(([karpathy], *VALUES))},
            {
                "images": [{"id": 1, "file_name": name}],
                "annotations": [{"image_id": rng.choice((1, 2)), "caption": value}],
            },
            *VALUES,
        )
    )
    return put(folder / rng.choice(("dataset_x.json", "captions_train2017.json")), json.dumps(content))


def deep(rng: random.Random, folder: Path) -> Path:
    """Lists or objects within one another."""
    depth, open_one = rng.choice((900, 5_000, 200_000)), rng.choice(("[", '{"a":'))
    return put(folder / rng.choice(("captions.jsonl", "dataset_x.json", "captions_x.json")), open_one * depth)


def lines(rng: random.Random, folder: Path) -> Path:
    """The forms of lines: Flickr's tokens, Kaggle's pipes, a text file a picture."""
    name = rng.choice(("Flickr8k.token.txt", "results.csv", "results_1.token", "a.txt", "captions.txt"))
    rows = [
        f"{rng.choice(NAMES)}{rng.choice(('#0', '| 0', ''))}{rng.choice(('	', '| ', ' '))}{caption(rng)}"
        for _ in range(6)
    ]
    return put(folder / name, "\n".join(rows))


def flipped(rng: random.Random, folder: Path) -> Path:
    """One of the others with bytes changed."""
    path = rng.choice((table, json_lines, one_json, lines))(rng, folder)
    data = bytearray(path.read_bytes() or b"\0")
    for _ in range(rng.randint(1, 5)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(data)
    return path


def pipe(rng: random.Random, folder: Path) -> Path:
    """No regular file: reading it waits for ever."""
    path = folder / rng.choice(("captions.csv", "captions.jsonl", "dataset_x.json", "captions_x.json", "results.csv"))
    os.mkfifo(path)
    return path


def put(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


CAPTIONS_FILES: dict[str, Write] = {
    "table": table,
    "JSON lines": json_lines,
    "one JSON": one_json,
    "deep JSON": deep,
    "lines": lines,
    "flipped captions": flipped,
    "pipe for captions": pipe,
}


def write_captions_file(rng: random.Random, folder: Path, kind: str) -> Path:
    """A hostile captions file of that kind, written into the folder."""
    return CAPTIONS_FILES[kind](rng, folder)
