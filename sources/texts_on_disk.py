"""Names and captions of a folder's pictures as arrays on the disk, as those of shards are (sources/shards/samples.py).

data = texts_on_disk(prepare(...), settings.data_path)      # what was read from captions.json need not stay in memory

They lie in DATA_DIR/<DATASET>/texts-<key>/; the key is that of captions.json and splits.json as they are now.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from basics.errors import UserError
from basics.files import atomic_folder, file_hash
from sources.prepared import AnyData, FolderPictures, PreparedData
from sources.shards.picture import ShardPicture
from sources.shards.samples import Samples, Texts, writing_samples
from sources.shards.scan import Sample
from sources.splits import SPLITS


class MappedSplit(Samples, FolderPictures):
    """A Split of files in a folder, of which nothing is held in memory."""

    def __init__(self, folder: Path, split: str, image_dir: Path):
        super().__init__(folder, split)
        self.names, self.image_dir = self.members, image_dir


@dataclass
class MappedData:
    """What PreparedData is in memory."""

    folder: Path
    image_dir: Path

    def captions_of(self, split: str) -> Texts:
        return self.split(split).captions

    def split(self, split: str) -> MappedSplit:
        return MappedSplit(self.folder, split, self.image_dir)

    def holds(self, data: PreparedData) -> bool:
        return all(self.split(split).is_whole(len(data.splits[split])) for split in SPLITS)


def texts_on_disk(data: AnyData, data_path: Path) -> AnyData:
    """The same data, with their texts in files that are made where they are missing.

    Where these cannot be written the texts stay in memory, as they can always be read again.
    """
    if not isinstance(data, PreparedData):
        return data
    hashes = [file_hash(data_path / name) for name in ("captions.json", "splits.json")]
    folder = data_path.absolute() / f"texts-{hashlib.sha256(''.join(hashes).encode()).hexdigest()[:12]}"
    mapped = MappedData(folder, data.image_dir)
    if not mapped.holds(data):
        try:
            write_texts(data, folder)
        except (OSError, UserError):
            return data
    return mapped


def write_texts(data: PreparedData, folder: Path) -> None:
    with atomic_folder(folder) as fresh:
        for split in SPLITS:
            with writing_samples(fresh, split) as writer:
                for name in data.splits[split]:
                    writer.add(0, Sample(name, ShardPicture("", name, 0, 0), data.captions[name]))
