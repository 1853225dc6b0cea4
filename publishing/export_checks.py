"""What an export is held against: PyTorch's numbers and our captions. For export.py.

    part_differences(modules, exported, pixels)             # {"encoder": 1.2e-6, "prefill": ..., "step": ...}
    pictures = check_pictures(None, settings, 100, drawn)   # of the validation split, or drawn into that folder
    for line in compare_captions(captioner, exports, pictures, settings): print(line)

U pictures, K captions of each, T tokens so far.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from basics.errors import UserError
from basics.progress_bar import progress_bar
from basics.settings import Settings
from captioner.exported import ExportedCaptioner
from captioner.folder import Captioner
from networks.decoding_options import DecodingOptions
from networks.encoder import ImageProcessor, prepare_pixels
from publishing.export_folder import Export
from scoring.metrics import score_captions
from sources.images import find_pictures, load_image
from sources.pictures import Pictures, readable_pictures, spread
from sources.prepared import is_prepared, read_prepared
from sources.shapes import draw_shapes
from sources.shards.picture import Picture

BEAMS = (1, 3)
BATCH = 25  # pictures captioned or classified at once
CHECKED = 5  # pictures at once that numbers are compared on
CALIBRATED_AT_ONCE = 4  # all that is between layers is looked at
CALIBRATED, FEWEST = 64, 16  # pictures for 8-bit arithmetic: of 16, a few captions less stayed the same than of 64


@torch.no_grad()
def part_differences(modules: dict[str, nn.Module], exported: ExportedCaptioner, pixels: Tensor) -> dict[str, float]:
    """The largest difference to PyTorch of each part, over several U and K and every cache length.

    As a part of the largest number there is, where that is above 1: keys of language models go into the hundreds.
    """
    worst = dict.fromkeys(modules, 0.0)
    generator, vocab_size = torch.Generator().manual_seed(0), exported.config["vocab_size"]
    cases = (1, 1), (len(pixels), 1), (2, 3)
    with progress_bar(total=len(cases) * exported.max_seq_len, desc="checking") as bar:

        def compare(name: str, *inputs: Tensor | list[Tensor]) -> list[Tensor]:
            expected = modules[name](*inputs)
            flat = [tensor for value in inputs for tensor in (value if isinstance(value, list) else [value])]
            found = getattr(exported, name)(*(tensor.numpy() for tensor in flat))
            for one, other in zip(expected, found, strict=True):
                difference = np.abs(one.numpy() - other).max() / max(1.0, float(one.abs().max()))
                worst[name] = float(np.maximum(worst[name], difference))  # NaN stays NaN
            bar.update(name != "encoder")
            return expected

        for U, K in cases:
            cross = compare("encoder", pixels[:U])
            _, *own = compare("prefill", torch.full((U, K), exported.start_id), cross)
            for _ in range(exported.max_seq_len - 1):
                _, *own = compare("step", torch.randint(vocab_size, (U, K), generator=generator), cross, own)
    return worst


def check_pictures(folder: str | None, settings: Settings | None, count: int, drawn: Path) -> Pictures:
    """Pictures of the folder; else of the settings' validation split; else drawn ones. References if there are any."""
    if folder is not None:
        return pictures_in(folder, count)
    if settings and (val := pictures_of("val", settings, count)) is not None:
        return Pictures("validation", val.paths, val.references, val.left_out)
    captions = draw_shapes(drawn, count, seed=0)
    return Pictures("drawn", [drawn / name for name in captions], list(captions.values()), [])


def calibration_pictures(folder: str | None, settings: Settings | None) -> Pictures | None:
    """Pictures of the settings' training split; else of the folder; nothing where these are too few."""
    found = pictures_of("train", settings, CALIBRATED) if settings else None
    if found is None and folder is not None:
        found = pictures_in(folder, CALIBRATED)
    return found if found is not None and len(found.paths) >= FEWEST else None


def pictures_in(folder: str, count: int) -> Pictures:
    paths = find_pictures([folder])
    places = spread(count, len(paths))
    return readable_pictures(Pictures(folder, [paths[i] for i in places], [[]] * len(places), []))


def pictures_of(split: str, settings: Settings, count: int) -> Pictures | None:
    """Of prepared data, where they are there."""
    try:
        data = read_prepared(settings.data_path) if is_prepared(settings.data_path) else None
    except UserError:  # the pictures have moved since
        data = None
    if data is None or not len(pictures := data.split(split)):
        return None
    numbers = spread(count, len(pictures))
    paths, references = [pictures.picture(i) for i in numbers], [pictures.references[i] for i in numbers]
    return readable_pictures(Pictures(split, paths, references, []))


def in_batches(image_processor: ImageProcessor, pictures: Sequence[Picture]) -> Iterator[Tensor]:
    """Prepared pixels, a few pictures at a time."""
    for start in range(0, len(pictures), CALIBRATED_AT_ONCE):
        batch = pictures[start : start + CALIBRATED_AT_ONCE]
        yield prepare_pixels(image_processor, [load_image(path) for path in batch])


@dataclass
class System:
    """One that is compared: pictures and a number of beams -> captions."""

    name: str
    size: int  # bytes
    caption: Callable[..., list[str]]  # of pictures, beam=1


def in_pytorch(captioner: Captioner, length_penalty: float) -> System:
    def caption(images: list[Image.Image], beam: int) -> list[str]:
        options = DecodingOptions(captioner.model.max_seq_len, beam_size=beam, length_penalty=length_penalty)
        return [row[0][0] for row in captioner.caption_images(images, options)]

    return System("PyTorch", sum(tensor.nbytes for tensor in captioner.model.state_dict().values()), caption)


def as_exported(export: Export[ExportedCaptioner], length_penalty: float) -> System:
    def caption(images: list[Image.Image], beam: int) -> list[str]:
        options = DecodingOptions(beam_size=beam, length_penalty=length_penalty)
        return [row[0][0] for row in export.model.caption_images(images, options)]

    return System(export.weights, export.size, caption)


def compare_captions(
    captioner: Captioner, exports: list[Export[ExportedCaptioner]], pictures: Pictures, settings: Settings
) -> Iterator[str]:
    """The lines of a table, each when it is known: size, speed and captions of PyTorch and of the exports."""
    penalty = settings.LENGTH_PENALTY
    systems = [in_pytorch(captioner, penalty), *(as_exported(export, penalty) for export in exports)]
    yield f"{'':<12} {'size':>10}  {'beam':>4}  {'pictures/s':>10}  {'CIDEr-D':>7}  equal captions"
    total = len(BEAMS) * len(systems) * len(pictures.paths)
    with progress_bar(total=total, desc="captioning", unit=" pictures") as bar:
        for beam in BEAMS:
            ours = None
            for system in systems:
                captions, seconds = timed_answers(partial(system.caption, beam=beam), pictures.paths, bar)
                ours = ours or captions
                equal = sum(a == b for a, b in zip(captions, ours))
                yield (
                    f"{system.name:<12} {system.size / 1e6:>7.1f} MB  {beam:>4}  {len(captions) / seconds:>10.1f}  "
                    f"{cider(captions, pictures.references):>7}  {equal} of {len(captions)}"
                )


def timed_answers(
    answer: Callable[[list[Image.Image]], list[str]], paths: list[Picture], bar: tqdm
) -> tuple[list[str], float]:
    """The answers, and the seconds they took from decoded picture to text."""
    answers, seconds = [], 0.0
    for start in range(0, len(paths), BATCH):
        images = [load_image(path) for path in paths[start : start + BATCH]]
        began = time.perf_counter()
        answers += answer(images)
        seconds += time.perf_counter() - began
        bar.update(len(images))
    return answers, seconds


def cider(captions: list[str], references: list[list[str]]) -> str:
    return f"{score_captions(captions, references).mean['CIDEr-D']:.3f}" if all(references) else "-"
