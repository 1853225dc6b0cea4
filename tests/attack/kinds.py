"""Every kind of hostile input: made from a seeded random.Random, then read as the project reads it.

kinds = make_kinds(folder)                      # trains a tiny captioner into it, once
kinds["preset"](random.Random(7), empty)        # "read" or "refused"; raises what should not have happened
"""

import json
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
import yaml
from attack.captions_files import CAPTIONS_FILES, write_captions_file
from attack.mutate import HUGE, WRONG, mutate_bytes, mutate_value
from attack.pictures import PICTURES, write_picture
from in_process import train
from own_folder import make_own_folder
from PIL import Image
from tiny import same_weights, tiny_settings

from basics.cache_file import CacheFile
from basics.errors import UserError
from basics.setting_schema import SCHEMA
from basics.settings import load_settings
from captioner.folder import load_captioner
from sources.captions import Captions
from sources.images import load_image
from sources.prepare import prepare, preparing
from sources.prepared import read_prepared
from sources.reading import read_captions
from tokenizer import build_tokenizer
from training.processes import OneProcess
from training.resume import find_resumed

Kind = Callable[[random.Random, Path], str]
DESCRIPTIONS = ("config.json", "encoder/config.json", "encoder/preprocessor_config.json", "vocab.json")


def make_kinds(folder: Path) -> dict[str, Kind]:
    """By what is attacked; folder gets a captioner, its checkpoint and prepared data, which stay as they are."""
    assert train(folder, RUN_NAME="a", NUM_EPOCHS=1).returncode == 0
    run, raw = folder / "checkpoints/a", make_own_folder(folder / "raw")
    best, checkpoint = run / "best", next(run.glob("checkpoint_step_*.pt"))
    return {
        **{f"picture, {kind}": partial(picture, kind) for kind in PICTURES},
        **{f"captions file, {kind}": partial(captions_file, kind) for kind in CAPTIONS_FILES},
        "archive, bytes": partial(archive, raw),
        "prepared data, values": partial(prepared_values, make_prepared(folder, raw)),
        "preset, bytes and values": preset,
        "flags": flag,
        "captioner, values": partial(captioner_values, best),
        "captioner, bytes": partial(captioner_bytes, best),
        "checkpoint, values": partial(checkpoint_values, torch.load(checkpoint, weights_only=True)),
        "checkpoint, bytes": partial(checkpoint_bytes, checkpoint),
        "cache in the making, bytes": cache_bytes,
    }


def outcome(work: Callable[[], object], named: Path | str = "") -> str:
    """That of work(): a UserError of one line, or of a list, that names what it is about, is as it should be."""
    try:
        work()
    except UserError as error:
        text = str(error)
        assert str(named) in text and all(line.isprintable() for line in text.split("\n")), repr(text)
        assert text.count("\n") == 0 or text.startswith("cannot start, "), repr(text)
        return "refused"
    return "read"


def picture(kind: str, rng: random.Random, folder: Path) -> str:
    path = write_picture(rng, folder, kind)

    def read():
        image = load_image(path)
        assert image.mode == "RGB" and max(image.size) <= 200 * min(image.size)

    return outcome(read)


def captions_file(kind: str, rng: random.Random, folder: Path) -> str:
    for name in ("a.png", "b.png"):
        Image.new("L", (2, 2)).save(folder / name)
    write_captions_file(rng, folder, kind)
    return outcome(lambda: check_captions(read_captions(folder, folder / "data").captions), folder)


def check_captions(captions: dict[str, list[str]]) -> None:
    texts = [text for name, rows in captions.items() for text in (name, *rows)]
    assert texts and all(isinstance(text, str) and text.encode() is not None for text in texts)


def archive(raw: Path, rng: random.Random, folder: Path) -> str:
    """A folder of captions whose pictures lie in an archive with some bytes changed."""
    shutil.copy(raw / "captions.csv", folder)
    path, files = (
        folder / rng.choice(("pictures.zip", "pictures.tar", "pictures.tar.gz")),
        sorted(raw.glob("*.png"))[:8],
    )
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as content:
            add(content.write, files)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as content:
            add(content.add, files)
    path.write_bytes(mutate_bytes(rng, path.read_bytes())[1])
    found = outcome(lambda: read_captions(folder, folder / "data"), folder)
    assert all(inside.resolve().is_relative_to(folder.resolve()) for inside in folder.rglob("*"))
    return found


def add(write: Callable[[Path, str], object], files: Iterable[Path]) -> None:
    for file in files:
        write(file, file.name)


def make_prepared(folder: Path, raw: Path) -> Path:
    settings = tiny_settings(DATASET="folder", RAW_DIR=str(raw), DATA_DIR=str(folder / "data"))
    with preparing(settings):
        prepare(settings, Captions(lambda captions: build_tokenizer(settings, captions)))
    return settings.data_path


def prepared_values(prepared: Path, rng: random.Random, folder: Path) -> str:
    name = rng.choice(("captions.json", "splits.json", "dataset.json"))
    for file in prepared.glob("*.json"):
        shutil.copy(file, folder)
    write_mutant(rng, folder / name)
    return outcome(lambda: check_captions(read_prepared(folder).captions), folder)


def write_mutant(rng: random.Random, path: Path) -> None:
    path.write_text(json.dumps(mutate_value(rng, json.loads(path.read_text()))[1]))


def preset(rng: random.Random, folder: Path) -> str:
    path = folder / "mine.yaml"
    values = {name: rng.choice((*WRONG, *HUGE)) for name in rng.sample(list(SCHEMA), 5)}
    content = yaml.safe_dump(values).encode("utf-8", "backslashreplace")
    path.write_bytes(mutate_bytes(rng, content)[1] if rng.random() < 0.7 else content)
    return outcome(lambda: load_settings(["--preset", str(path)]))


def flag(rng: random.Random, folder: Path) -> str:
    names = rng.sample(list(SCHEMA), 3)
    values = [str(rng.choice((*WRONG, *HUGE, rng.getrandbits(80), -rng.random()))) for _ in names]
    flags = [part for name, value in zip(names, values) for part in (f"--{name.lower().replace('_', '-')}", value)]
    return outcome(lambda: load_settings(flags))


def captioner_values(best: Path, rng: random.Random, folder: Path) -> str:
    mutant = shutil.copytree(best, folder / "best")
    (mutant / "checksums.json").unlink()  # as somebody would who means it
    write_mutant(rng, mutant / rng.choice(DESCRIPTIONS))
    return outcome(lambda: say(mutant), mutant)


def say(path: Path) -> None:
    """Caption a picture with what lies there."""
    load_captioner(path).caption(Image.new("RGB", (20, 10), "red"))


def captioner_bytes(best: Path, rng: random.Random, folder: Path) -> str:
    mutant = shutil.copytree(best, folder / "best")
    path = rng.choice([file for file in sorted(mutant.rglob("*")) if file.is_file() and file.name != "README.md"])
    path.write_bytes(mutate_bytes(rng, path.read_bytes())[1])
    found = outcome(lambda: say(mutant), mutant)
    assert found == "refused" or path.name == "checksums.json", path  # each byte of the others is summed
    return found


def checkpoint_values(whole: dict, rng: random.Random, folder: Path) -> str:
    path = folder / "checkpoint_step_00000001.pt"
    torch.save(mutate_value(rng, whole)[1], path)
    settings = tiny_settings().replace(RESUME_CHECKPOINT_PATH=str(path))
    return max(outcome(lambda: say(path), path), outcome(lambda: find_resumed(settings, OneProcess()), path))


def checkpoint_bytes(checkpoint: Path, rng: random.Random, folder: Path) -> str:
    """What a changed byte leaves readable, in the padding of the file say, has the same weights."""
    path = folder / checkpoint.name
    path.write_bytes(mutate_bytes(rng, checkpoint.read_bytes())[1])

    def read():
        weights = load_captioner(path).model.state_dict()
        assert same_weights(weights, load_captioner(checkpoint).model.state_dict())

    return outcome(read, path)


def cache_bytes(rng: random.Random, folder: Path) -> str:
    """A stopped build whose part or note was changed is made as if it had not been."""
    content = [rng.randbytes(30) for _ in range(4)]

    def produce(done, stop=None):
        for piece in content[done:]:
            if piece is stop:
                raise KeyboardInterrupt
            yield 1, piece

    cache = CacheFile(folder / "train", {})
    with_notes(lambda: cache.make(4, 120, partial(produce, stop=content[2]), "caching"))
    files = [path for path in sorted(folder.iterdir()) if path.suffix != ".lock"]
    path = rng.choice(files)
    path.write_bytes(mutate_bytes(rng, path.read_bytes())[1])
    with_notes(lambda: cache.make(4, 120, produce, "caching"))
    assert cache.path.read_bytes() == b"".join(content)
    return "read"


def with_notes(work: Callable[[], object]) -> None:
    """With a note after each piece, though the work takes no time; a stop is no error."""
    from unittest import mock

    from basics import cache_file

    with mock.patch.object(cache_file, "NOTE_EVERY", -1.0):
        try:
            work()
        except KeyboardInterrupt:
            pass
