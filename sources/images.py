"""Pictures of every kind as plain RGB, and the files a user means."""

import glob
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from basics.errors import UserError, reason_of

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"}


class ImageError(UserError):
    """A picture that cannot be used; one line that names the file and the reason."""


def load_image(picture: str | Path | Image.Image) -> Image.Image:
    """The first frame of a picture file, upright, fully decoded, RGB; what is transparent becomes white.

    What Pillow has opened or made will do for a file. Raises ImageError for what is missing, empty, cut short, too
    large or no picture.
    """
    if not isinstance(picture, str | Path | Image.Image):
        raise ImageError(f"cannot read a {type(picture).__name__}: expected a file or a picture of Pillow")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with opened(picture) as image:
                image.load()
                return to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        reason = "it is empty" if Path(str(picture)).stat().st_size == 0 else "it is no picture"
    except FileNotFoundError:
        reason = "there is no such file"
    except Image.DecompressionBombError:
        reason = f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"
    except Exception as error:  # decoders raise what they like on damaged files: OSError, SyntaxError, ...
        reason = f"it is damaged ({reason_of(error)})"
    name = getattr(picture, "filename", "the picture") if isinstance(picture, Image.Image) else picture
    raise ImageError(f"cannot read {name}: {reason}")


def opened(picture: str | Path | Image.Image) -> AbstractContextManager[Image.Image]:
    """A picture of Pillow is left open, as it is not ours."""
    return nullcontext(picture) if isinstance(picture, Image.Image) else Image.open(picture)


def to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = to_eight_bits(image)
    if image.mode == "La":  # which Pillow makes nothing else of
        image = image.convert("LA")
    if image.mode in ("LA", "PA", "RGBa", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def to_eight_bits(image: Image.Image) -> Image.Image:
    """16-bit and 32-bit grey scaled to 0..255; Pillow's own conversion clips at 255, which leaves a white picture."""
    grey = np.asarray(image, dtype=np.float64)
    top = 65535.0 if image.mode.startswith("I") else 1.0
    if grey.max(initial=0.0) > top:  # neither 16-bit nor 0..1: stretch to the brightest
        top = grey.max()
    return Image.fromarray((grey.clip(0, top) * (255.0 / top)).round().astype(np.uint8))


def find_pictures(patterns: list[str]) -> list[Path]:
    """Files, the pictures in folders (by suffix, sorted), and what patterns match, each once."""
    found = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            if not inside:
                raise UserError(f"{path} holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))})")
            found += inside
        elif not path.exists() and glob.has_magic(pattern):
            matches = sorted(path for match in glob.glob(pattern, recursive=True) if (path := Path(match)).is_file())
            if not matches:
                raise UserError(f"no file matches {pattern}")
            found += matches
        else:
            found.append(path)
    return list(dict.fromkeys(found))
