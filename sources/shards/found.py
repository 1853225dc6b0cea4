"""The shards that SHARDS names, here on the disk, with what their indexes say of them.

shards = find_shards("shards/", Path("data/webdataset/fetched"))
shards[0].path, shards[0].listed, shards[0].stamp
"""

from dataclasses import dataclass
from pathlib import Path

from basics.errors import UserError
from basics.files import file_hash
from sources.shards.fetch import announce, fetch, fetch_index, fetched_path
from sources.shards.index_file import INDEX, Listed, read_index
from sources.shards.places import expand, is_url


@dataclass(frozen=True)
class Shard:
    """place: as SHARDS has it; path: the file; listed: its line of an index, None where none names it."""

    place: str
    path: Path
    listed: Listed | None

    @property
    def name(self) -> str:
        return Path(self.place.split("?")[0]).name

    @property
    def stamp(self) -> list:
        """What a change is noticed by, without reading it; a fetched one is what its URL said."""
        status = self.path.stat()
        return [self.place, status.st_size, *([] if is_url(self.place) else [status.st_mtime_ns])]


def find_shards(shards: str, fetched: Path) -> list[Shard]:
    """In the order that is read; those of a server are fetched here. Raises UserError for one that is not there."""
    places, indexes = expand(shards), {}
    for place in places:
        if (parent := parent_of(place)) not in indexes:
            indexes[parent] = index_beside(place, fetched)
    listed = [(place, indexes[parent_of(place)].get(Path(place.split("?")[0]).name)) for place in places]
    announce([(place, line) for place, line in listed if is_url(place)], fetched)
    return [find_shard(place, fetched, line) for place, line in listed]


def parent_of(place: str) -> str:
    return place.split("?")[0].rpartition("/")[0]


def index_beside(place: str, fetched: Path) -> dict[str, Listed]:
    """What lists a shard; {} where nothing does, or a server is gone that gave the shard before."""
    if is_url(place):
        is_here = fetched_path(place, fetched).is_file()
        try:
            return fetch_index(place, patient=not is_here)
        except UserError:
            if is_here:
                return {}
            raise
    path = Path(place).with_name(INDEX)
    return read_index(path) if path.is_file() else {}


def find_shard(place: str, fetched: Path, listed: Listed | None) -> Shard:
    path = fetch(place, fetched, listed) if is_url(place) else Path(place)
    if not path.is_file():
        raise UserError(f"the shard {path} is missing; put it back, or leave it out of SHARDS")
    return Shard(place, path, listed)


def refuse_changed(shard: Shard) -> None:
    """Raises UserError where a shard is not what its index says."""
    if shard.listed is None:
        return
    size, advice = shard.path.stat().st_size, f"fetch or write it again, or remove its {INDEX}"
    if size != shard.listed["bytes"]:
        raise UserError(
            f"the shard {shard.path} has {size:,} bytes, its index says {shard.listed['bytes']:,}; {advice}"
        )
    if file_hash(shard.path) != shard.listed["sha256"]:
        raise UserError(f"the shard {shard.path} has another checksum than its index says; {advice}")
