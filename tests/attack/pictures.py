"""Hostile pictures: seeded, each a file of a kind that load_image() must answer with a picture or one line.

for kind in PICTURES:
    path = write_picture(random.Random(7), tmp_path, kind)
"""

import io
import os
import random
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

SAVED_AS = {"jpg": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF"}
MODES = {
    "jpg": ("L", "RGB", "CMYK"),
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "gif": ("L", "P"),
    "webp": ("RGB", "RGBA"),
    "bmp": ("1", "L", "P", "RGB"),
    "tif": ("1", "L", "LA", "RGB", "RGBA", "CMYK", "F", "I;16"),
}
Write = Callable[[random.Random, Path], Path]


def good_bytes(rng: random.Random, suffix: str) -> bytes:
    """A small picture of noise, of a random mode of the format."""
    size, file = (rng.randint(1, 40), rng.randint(1, 40)), io.BytesIO()
    mode = rng.choice(MODES[suffix])
    image = Image.effect_noise(size, 90)
    if mode == "I;16":
        image = Image.frombytes(mode, size, rng.randbytes(2 * size[0] * size[1]))
    else:
        image = image.convert("RGB").convert(mode) if mode not in ("F", "LA") else image.convert(mode)
    image.save(file, SAVED_AS[suffix])
    return file.getvalue()


def flipped(rng: random.Random, folder: Path) -> Path:
    """A picture with some bytes changed anywhere."""
    suffix = rng.choice(list(SAVED_AS))
    data = bytearray(good_bytes(rng, suffix))
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return put(folder / f"flipped.{suffix}", bytes(data))


def cut(rng: random.Random, folder: Path) -> Path:
    suffix = rng.choice(list(SAVED_AS))
    data = good_bytes(rng, suffix)
    return put(folder / f"cut.{suffix}", data[: rng.randrange(len(data))])


def spliced(rng: random.Random, folder: Path) -> Path:
    """The head of one format and the rest of another."""
    first, second = rng.choices(list(SAVED_AS), k=2)
    head, rest = good_bytes(rng, first), good_bytes(rng, second)
    return put(folder / f"spliced.{first}", head[: rng.randrange(len(head))] + rest[rng.randrange(len(rest)) :])


def misnamed(rng: random.Random, folder: Path) -> Path:
    """What is no picture, or another, under a picture's name: PostScript must not reach a program that runs it."""
    other = (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"P6 2 2 255\n" + bytes(12),
        b"",
        b"\0" * 99,
        b"text",
    )
    data = rng.choice([*other, good_bytes(rng, rng.choice(list(SAVED_AS)))])
    return put(folder / f"misnamed.{rng.choice(list(SAVED_AS))}", data)


def bomb(rng: random.Random, folder: Path) -> Path:
    """A PNG whose head promises more than it holds, up to far more than there is memory for."""
    width, height = (rng.choice((1, 300, 12_000, 60_000, 2**31 - 1)) for _ in range(2))
    return put(folder / "bomb.png", png(width, height, rng.choice((0, 2, 3, 4, 6))))


def png(width: int, height: int, color_type: int, data: bytes = b"") -> bytes:
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)),
        (b"IDAT", data or zlib.compress(bytes(99))),
        (b"IEND", b""),
    ]
    packed = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def thin(rng: random.Random, folder: Path) -> Path:
    """A line of pixels, which scaling its shorter side makes a plain."""
    size = (1, rng.randint(1, 65_000))
    Image.new("L", size[:: rng.choice((1, -1))]).save(folder / "thin.png")
    return folder / "thin.png"


def special(rng: random.Random, folder: Path) -> Path:
    """No regular file: opening it may wait for ever."""
    path = folder / "special.jpg"
    path.unlink(missing_ok=True)
    make = rng.choice((os.mkfifo, make_socket, os.mkdir, lambda p: os.symlink("gone.jpg", p), make_loop))
    make(path)
    return path


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as place:
        place.bind(os.path.relpath(path))  # its name may have 107 bytes


def make_loop(path: Path) -> None:
    os.symlink(path.name, path)


def oddly_named(rng: random.Random, folder: Path) -> Path:
    """A good picture under a name that is no UTF-8, or breaks a line."""
    suffix = rng.choice(list(SAVED_AS))
    name = (
        rng.choice((b"caf\xe9.", b"two\nlines.", b"tab\t.", b"\xff\xfe.", b"-.", "\u202e.".encode())) + suffix.encode()
    )
    return put(folder / os.fsdecode(name), good_bytes(rng, suffix))


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


PICTURES: dict[str, Write] = {
    "flipped": flipped,
    "cut": cut,
    "spliced": spliced,
    "misnamed": misnamed,
    "bomb": bomb,
    "thin": thin,
    "special": special,
    "oddly named": oddly_named,
}


def write_picture(rng: random.Random, folder: Path, kind: str) -> Path:
    """A hostile picture of that kind, written into the folder."""
    return PICTURES[kind](rng, folder)
