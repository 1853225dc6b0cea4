"""CIFAR-10 and CIFAR-100 as their maker ships them, read by torchvision and written as class folders of PNG files.

found = cifar_in(Path("downloads"), "cifar10")      # an archive or the folder in it; None where there is none
folder = unpack_cifar(found, data_path)             # train/cat/00009.png, test/cat/00000.png
"""

import hashlib
import pickle
import socket
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from basics.errors import UserError, reason_of
from basics.files import atomic_folder
from basics.progress_bar import progress_bar
from sources.archives import unpack
from sources.images import load_image

SILENCE = 60  # seconds that a server may send nothing


@dataclass(frozen=True)
class Cifar:
    """A name for people, torchvision's name for it, and what its archive and the folder in that are called."""

    name: str
    loader: str
    archive: str
    folder: str


CIFARS = {  # by DATASET
    "cifar10": Cifar("CIFAR-10", "CIFAR10", "cifar-10-python.tar.gz", "cifar-10-batches-py"),
    "cifar100": Cifar("CIFAR-100", "CIFAR100", "cifar-100-python.tar.gz", "cifar-100-python"),
}


@dataclass(frozen=True)
class FoundCifar:
    """A Cifar, and its folder or archive."""

    cifar: Cifar
    path: Path


def cifar_in(raw_dir: Path, dataset: str) -> FoundCifar | None:
    """That of DATASET, else whichever is there. Raises UserError where both are."""
    wanted = [CIFARS[dataset]] if dataset in CIFARS else [*CIFARS.values()]
    found = []
    for cifar in wanted:
        places = (raw_dir / cifar.folder, raw_dir / cifar.archive, *([raw_dir] if raw_dir.name == cifar.folder else []))
        found += [FoundCifar(cifar, path) for path in places if path.exists()][:1]
    if len(found) > 1:
        names = " and ".join(each.path.name for each in found)
        raise UserError(f"{raw_dir} holds both {names}; choose one with --dataset cifar10 or --dataset cifar100")
    return found[0] if found else None


def unpack_cifar(found: FoundCifar, data_path: Path) -> Path:
    """A folder of data_path with its pictures, kept when there: its bytes are known, as torchvision compares them."""
    cifar, folder = found.cifar, data_path / "images" / found.cifar.folder
    if folder.is_dir():
        return folder
    data_path.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as fresh, TemporaryDirectory(dir=data_path) as temporary:
        is_archive = found.path.name == cifar.archive
        root = unpack([found.path], Path(temporary)) if is_archive else found.path.parent
        for split in ("train", "test"):
            write_pictures(load_batches(cifar, root, split, found.path), fresh / split)
    return folder


def load_batches(cifar: Cifar, root: Path, split: str, path: Path) -> Any:
    """torchvision's data set. It compares each file with the MD5 that it knows before it unpickles it."""
    from torchvision import datasets  # only here: it imports torch, which takes seconds

    try:
        return getattr(datasets, cifar.loader)(root, train=split == "train")
    except (RuntimeError, OSError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path} is not {cifar.name} as it is shipped ({reason_of(error).split('. ')[0]}); fetch {cifar.archive} "
            "again"
        ) from error


def write_pictures(batches: Any, folder: Path) -> None:
    for name in batches.classes:
        (folder / name).mkdir(parents=True)
    rows = zip(batches.data, batches.targets, strict=True)
    for number, (pixels, target) in enumerate(
        progress_bar(rows, total=len(batches.data), desc="writing", unit=" pictures")
    ):
        Image.fromarray(pixels).save(folder / batches.classes[target] / f"{number:05}.png")


def pixel_key(path: Path) -> str:
    """A hash of what it shows: the same on all machines, whose PNG files differ."""
    return hashlib.sha256(load_image(path).tobytes()).hexdigest()


def download_cifar(dataset: str, folder: Path) -> Path:
    """The archive into a folder, where it is not there yet; torchvision compares its MD5. Raises UserError."""
    from torchvision import datasets  # as above
    from torchvision.datasets.utils import download_url

    cifar = CIFARS[dataset]
    origin = getattr(datasets, cifar.loader)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)  # urllib would wait for ever
    try:
        download_url(origin.url, folder, cifar.archive, origin.tgz_md5)
    except Exception as error:  # of the network, of HTTP, of the checksum: they have no common base
        raise UserError(
            f"cannot download {origin.url} ({reason_of(error)}); put {cifar.archive}, or class folders "
            "(train/cat/1.jpg, test/cat/2.jpg), into a folder and name it with --raw-dir"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return folder
