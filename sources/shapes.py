"""The embedded dataset: pictures of one to three coloured shapes, drawn on the spot, each with five phrasings.

    captions = draw_shapes(Path("data/shapes/images"), num_images=4000, seed=42)
    labels = draw_single_shapes(Path("data/shapes-classify/images"), num_images=4000, seed=42)

A scene is a row or a column of shapes; its captions follow from it alone, so a model can learn them exactly.
"""

import random
from pathlib import Path

from PIL import Image, ImageDraw

from basics.progress_bar import progress_bar

SIDE = 96  # pixels of a picture
SMOOTH = 4  # drawn this many times larger, then shrunk, so that edges are smooth
PLACES = {1: (1,), 2: (0, 2), 3: (0, 1, 2)}  # thirds of the picture that so many things take
JITTER = 2  # pixels a shape may be off the middle of its cell
DIAMETERS = {"small": 14, "large": 27}
SINGLE_DIAMETERS = (12, 48)  # of one shape alone
SHAPES = ("circle", "square", "triangle")
COLORS = {
    "red": (214, 40, 40),
    "green": (42, 157, 60),
    "blue": (38, 84, 214),
    "yellow": (242, 194, 0),
    "black": (24, 24, 24),
}

Thing = tuple[str, str, str]  # size, colour, shape


def draw_shapes(image_dir: Path, num_images: int, seed: int) -> dict[str, list[str]]:
    """Draw num_images pictures into image_dir -> {file name: five captions}; the same seed draws the same."""
    image_dir.mkdir(parents=True, exist_ok=True)
    captions = {}
    for number in progress_bar(range(num_images), desc="drawing", unit=" pictures"):
        name = f"{number:06d}.png"
        rng = random.Random(f"{seed}/{number}")  # each picture its own: more pictures leave the first ones as they are
        things, is_row = random_scene(rng)
        draw_scene(things, is_row, rng).save(image_dir / name)
        captions[name] = phrasings(things, is_row)
    return captions


def draw_single_shapes(image_dir: Path, num_images: int, seed: int) -> dict[str, list[str]]:
    """As draw_shapes(), of one shape of any size at any place -> {file name: its class, such as "red circle"}."""
    image_dir.mkdir(parents=True, exist_ok=True)
    labels = {}
    for number in progress_bar(range(num_images), desc="drawing", unit=" pictures"):
        name = f"{number:06d}.png"
        rng = random.Random(f"single {seed}/{number}")
        color, shape = rng.choice(list(COLORS)), rng.choice(SHAPES)
        draw_single(color, shape, rng).save(image_dir / name)
        labels[name] = [f"{color} {shape}"]
    return labels


def draw_single(color: str, shape: str, rng: random.Random) -> Image.Image:
    image, draw = blank(rng)
    radius = rng.uniform(*SINGLE_DIAMETERS) / 2
    x, y = (rng.uniform(radius, SIDE - radius) for _ in range(2))
    draw_thing(draw, shape, COLORS[color], x * SMOOTH, y * SMOOTH, radius * SMOOTH)
    return shrunk(image)


def blank(rng: random.Random) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    tone = rng.randint(225, 250)
    image = Image.new("RGB", (SIDE * SMOOTH, SIDE * SMOOTH), (tone, tone, tone))
    return image, ImageDraw.Draw(image)


def shrunk(image: Image.Image) -> Image.Image:
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def random_scene(rng: random.Random) -> tuple[list[Thing], bool]:
    """One to three things, from left to right (a row) or from top to bottom."""
    count = rng.choice((1, 2, 2, 3))
    things = [(rng.choice(list(DIAMETERS)), rng.choice(list(COLORS)), rng.choice(SHAPES)) for _ in range(count)]
    return things, rng.random() < 0.5


def draw_scene(things: list[Thing], is_row: bool, rng: random.Random) -> Image.Image:
    """The things along the middle row or the middle column, each a little off its place."""
    image, draw = blank(rng)
    for (size, color, shape), place in zip(things, PLACES[len(things)]):
        column, row = (place, 1) if is_row else (1, place)
        x, y = ((cell + 0.5) * SIDE / 3 + rng.uniform(-JITTER, JITTER) for cell in (column, row))
        draw_thing(draw, shape, COLORS[color], x * SMOOTH, y * SMOOTH, DIAMETERS[size] / 2 * SMOOTH)
    return shrunk(image)


def draw_thing(
    draw: ImageDraw.ImageDraw, shape: str, color: tuple[int, int, int], x: float, y: float, r: float
) -> None:
    if shape == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=color)
    elif shape == "square":
        draw.rectangle((x - 0.9 * r, y - 0.9 * r, x + 0.9 * r, y + 0.9 * r), fill=color)
    else:
        draw.polygon([(x, y - r), (x - r, y + 0.8 * r), (x + r, y + 0.8 * r)], fill=color)


def phrasings(things: list[Thing], is_row: bool) -> list[str]:
    """Five captions, each true and complete."""
    names = ["a " + " ".join(thing) for thing in things]
    if len(names) == 1:
        size, color, shape = things[0]
        return [
            names[0],
            f"there is {names[0]}",
            f"one {size} {color} {shape}",
            f"a picture of {names[0]}",
            f"{names[0]} and nothing else",
        ]
    before, after = ("left of", "right of") if is_row else ("above", "below")
    if len(names) == 2:
        a, b = names
        return [
            f"{a} {before} {b}",
            f"{b} {after} {a}",
            f"there is {a} {before} {b}",
            f"{a} is {before} {b}",
            f"a picture of {a} {before} {b}",
        ]
    a, b, c = names
    way, line = ("left to right", "row") if is_row else ("top to bottom", "column")
    return [
        f"{a} {before} {b} {before} {c}",
        f"{c} {after} {b} {after} {a}",
        f"{way}: {a}, {b} and {c}",
        f"a {line} of {a}, {b} and {c}",
        f"there is a {line} of {a}, {b} and {c}",
    ]
