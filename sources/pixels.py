"""Pictures of every mode of Pillow's as RGB, a strip at a time: conversions take many times the memory of a picture.

rgb = to_rgb(image)         # what is transparent becomes white, 16 bits become 8
rgb = to_rgb(image, 2)      # of half the width and height, each pixel the mean of four
"""

import numpy as np
from PIL import Image

STRIP = 4_000_000  # pixels converted at once, the whole of most pictures; 16-bit ones take 32 bytes for each


def to_rgb(image: Image.Image, shrink: int = 1) -> Image.Image:
    """The same pixels however many strips they are converted in."""
    image.load()
    top = brightest(image)
    if image.width * image.height <= STRIP and shrink == 1:
        return strip_to_rgb(image, top)
    result = Image.new("RGB", (-(-image.width // shrink), -(-image.height // shrink)))
    rows = max(STRIP // image.width // shrink, 1) * shrink
    for y in range(0, image.height, rows):
        strip = strip_to_rgb(image.crop((0, y, image.width, min(y + rows, image.height))), top)
        result.paste(strip.reduce(shrink) if shrink > 1 else strip, (0, y // shrink))
    return result


def strip_to_rgb(image: Image.Image, top: float) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = to_eight_bits(image, top)
    if image.mode == "La":  # which Pillow makes nothing else of
        image = image.convert("LA")
    if image.mode in ("LA", "PA", "RGBa", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def brightest(image: Image.Image) -> float:
    """What becomes 255 in 16-bit and 32-bit grey; where it is neither 16-bit nor 0..1, the brightest pixel."""
    top = 65535.0 if image.mode.startswith("I") else 1.0
    if image.mode not in ("I", "F"):
        return top
    return max(top, float(image.getextrema()[1]))  # type: ignore[arg-type]  # of one band two numbers


def to_eight_bits(image: Image.Image, top: float) -> Image.Image:
    """16-bit and 32-bit grey scaled to 0..255; Pillow's own conversion clips at 255, which leaves a white picture."""
    grey = np.nan_to_num(np.asarray(image, dtype=np.float64))
    return Image.fromarray((grey.clip(0, top) * (255.0 / top)).round().astype(np.uint8))
