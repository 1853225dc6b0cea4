"""Where shards lie: what SHARDS says, one place a shard, in one order.

expand("shards/")                                       # every .tar of a folder, by name
expand("a/train-{000000..000009}.tar::b/extra.tar")     # braces as in webdataset, several with ::
expand("https://example.org/cc3m/{00000..00331}.tar")
"""

import re
from itertools import islice
from pathlib import Path

from basics.errors import UserError
from sources.shards.index_file import INDEX, read_index

MOST_SHARDS = 1_000_000
RANGE = re.compile(r"\{(-?\d{1,18})\.\.(-?\d+)(?:\.\.-?\d+)?\}")
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
EXPECTED = "expected a folder, .tar files, ranges such as train-{000000..000009}.tar, or http(s) URLs of these"


def expand(shards: str) -> list[str]:
    """Paths and URLs in the order that is read. Raises UserError for what cannot or must not be read."""
    places = [place for part in shards.split("::") for url in braces(part.strip()) for place in shards_of(url)]
    if len(set(places)) < len(places):
        twice = next(place for place in places if places.count(place) > 1)
        raise UserError(f"SHARDS names {twice} twice; its samples would count twice")
    return places


def braces(part: str) -> list[str]:
    """A range written out. The limit is ours: webdataset's expand_urls() would fill the memory, and asks the
    environment for variables."""
    from braceexpand import braceexpand  # webdataset's own, only where there are shards

    if any(len(last) > 18 or abs(int(last) - int(first)) >= MOST_SHARDS for first, last in RANGE.findall(part)):
        raise UserError(f"SHARDS {part} names more than {MOST_SHARDS:,} shards")
    try:
        places = list(islice(braceexpand(part), MOST_SHARDS + 1))
    except ValueError as error:
        raise UserError(f"SHARDS {part} has braces that do not match") from error
    if len(places) > MOST_SHARDS:
        raise UserError(f"SHARDS {part} names more than {MOST_SHARDS:,} shards")
    return places


def shards_of(place: str) -> list[str]:
    """The shards of a folder; a file or URL is one."""
    scheme = SCHEME.match(place)
    if scheme and scheme[1].lower() == "pipe":
        raise UserError(f"SHARDS {place} would run a command, which is refused; {EXPECTED}")
    if scheme and scheme[1].lower() not in ("http", "https"):
        raise UserError(f"SHARDS {place}: {scheme[1]} is not read; {EXPECTED}")
    if not place.split("?")[0].endswith(".tar") and (scheme or not Path(place).expanduser().is_dir()):
        raise UserError(f"SHARDS {place or 'is empty'} is no .tar file and no folder here; {EXPECTED}")
    path = Path(place).expanduser().resolve()  # one shard is one place, wherever it is asked for from
    return [place] if scheme else [str(path)] if not path.is_dir() else of_folder(path)


def of_folder(folder: Path) -> list[str]:
    """All that lie there or that its index names."""
    index = folder / INDEX
    names = {path.name for path in folder.glob("*.tar")} | ({*read_index(index)} if index.is_file() else set())
    if not names:
        raise UserError(f"{folder} holds no .tar shards; python write_shards.py makes some")
    return [str(folder / name) for name in sorted(names)]


def is_url(place: str) -> bool:
    return bool(SCHEME.match(place)) and "://" in place
