"""Pictures of every kind as plain RGB, and the files a user means."""

import glob
import os
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

import config
from basics.errors import UserError, reason_of
from basics.paths import no_regular_file, shown
from sources.pixels import to_rgb
from sources.shards.picture import Picture, ShardPicture, picture_at

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"}
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")  # Pillow has others, of which EPS runs a program
LARGE = 50_000_000  # pixels; nearly all photographs have fewer, and no encoder sees more than one in a hundred of them
LONGEST_SHAPE = 200  # times as long as wide: encoders that scale the shorter side would make it enormous
ORIENTATION = 0x0112  # of EXIF
ROWS_PER_STRIP, TILE_WIDTH = 278, 322  # of TIFF
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(UserError):
    """A picture that cannot be used; one line that names the file and the reason."""


class Refused(Exception):
    """The reason why a picture is not decoded, whole."""


def load_image(picture: str | Picture | Image.Image, max_megapixels: float | None = None) -> Image.Image:
    """The first frame of a picture file, upright, fully decoded, RGB; what is transparent becomes white.

    A picture inside a shard, and what Pillow has opened or made, will do for a file. Above 50 megapixels, where it
    cannot matter, it comes at half its size, above 100 at a quarter. max_megapixels (None: config.py's
    MAX_IMAGE_MEGAPIXELS) is asked before anything is decoded; JPEG is decoded to a half, a quarter or an eighth
    instead. Raises ImageError for what is missing, empty, cut short, too large, very long and thin, or no picture.
    """
    if not isinstance(picture, str | Picture | Image.Image):
        raise ImageError(f"cannot read a {type(picture).__name__}: expected a file or a picture of Pillow")
    limit = config.MAX_IMAGE_MEGAPIXELS if max_megapixels is None else max_megapixels
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")  # of sizes, palettes, damaged EXIF: the pixels count
            with opened(picture, limit) as image:
                return decoded(image, limit)
    except Refused as refusal:
        reason = str(refusal)
    except UnidentifiedImageError:
        reason = "it is empty" if size_of(picture) == 0 else f"it is no picture ({', '.join(FORMATS)})"
    except FileNotFoundError:
        reason = "it is a link to what is gone" if os.path.islink(str(picture)) else "there is no such file"
    except Image.DecompressionBombError:
        reason = f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"
    except MemoryError:
        reason = "it takes more memory than there is"
    except Exception as error:  # decoders raise what they like on damaged files: OSError, SyntaxError, ...
        reason = f"it is damaged ({reason_of(error)})"
    name = getattr(picture, "filename", "the picture") if isinstance(picture, Image.Image) else picture
    raise ImageError(f"cannot read {shown(str(name))}: {reason}")


def size_of(picture: str | Picture | Image.Image) -> int:
    return picture.size if isinstance(picture, ShardPicture) else os.path.getsize(str(picture))


def opened(picture: str | Picture | Image.Image, max_megapixels: float) -> AbstractContextManager[Image.Image]:
    """A picture of Pillow is left open, and as it is, as it is not ours."""
    if isinstance(picture, Image.Image):
        return nullcontext(picture)
    place = picture.shard if isinstance(picture, ShardPicture) else picture
    if kind := no_regular_file(place):
        raise Refused(f"it is {kind}")
    image = Image.open(picture.open() if isinstance(picture, ShardPicture) else picture, formats=FORMATS)
    shrink = times_smaller(image.size, max_megapixels * 1e6)
    if isinstance(image, JpegImageFile) and shrink > 1:
        image.draft(None, (image.width // shrink, image.height // shrink))
    return image


def times_smaller(size: tuple[int, int], limit: float = LARGE) -> int:
    """What to divide the sides by: 1 up to 50 megapixels or the limit; above, to at most 25 or the limit."""
    pixels = size[0] * size[1]
    if pixels <= min(LARGE, limit):
        return 1
    return next((times for times in (2, 4, 8) if pixels <= times**2 * min(LARGE / 2, limit)), 1)


def decoded(image: Image.Image, max_megapixels: float) -> Image.Image:
    if max(image.size) > LONGEST_SHAPE * min(image.size):
        raise Refused(f"{image.width} x {image.height} pixels, more than {LONGEST_SHAPE} times as long as wide")
    if is_heavy(image):
        max_megapixels /= 2
    if image.width * image.height > max_megapixels * 1e6:
        raise Refused(
            f"{image.width} x {image.height} pixels, more than {max_megapixels:g} million (MAX_IMAGE_MEGAPIXELS)"
        )
    image.load()
    rgb = to_rgb(image, times_smaller(image.size))
    rgb.info.clear()  # or it might be turned once more
    turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    return rgb if turn is None else rgb.transpose(turn)


def is_heavy(image: Image.Image) -> bool:
    """Whether its decoder holds it several times: WebP does, and TIFF in one strip."""
    tags = getattr(image, "tag_v2", None)
    if image.format != "TIFF" or tags is None:
        return image.format == "WEBP"
    return TILE_WIDTH not in tags and tags.get(ROWS_PER_STRIP, image.height) > image.height // 2


def pixels_of_file(picture: Picture) -> int:
    """How many the head of the file says it has; 0 where load_image() will say what is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            with opened(picture, config.MAX_IMAGE_MEGAPIXELS) as image:
                return image.width * image.height
    except Exception:  # as in load_image()
        return 0


def find_pictures(patterns: list[str]) -> list[Picture]:
    """Files, the pictures in folders (by suffix, sorted), and what patterns match, each once.

    shard.tar/key.jpg is the picture inside a tar. Pipes and links to what is gone are among them, for load_image() to
    say so.
    """
    found: list[Picture] = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not p.is_dir())
            if not inside:
                raise UserError(f"{path} holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))})")
            found += inside
        elif not path.exists() and (inside_shard := picture_at(path)):
            found.append(inside_shard)
        elif not path.exists() and glob.has_magic(pattern):
            matches = sorted(path for match in glob.glob(pattern, recursive=True) if not (path := Path(match)).is_dir())
            if not matches:
                raise UserError(f"no file matches {pattern}")
            found += matches
        else:
            found.append(path)
    return list(dict.fromkeys(found))
