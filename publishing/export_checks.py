"""What an export is held against: the encoder's own preprocessing, PyTorch's numbers, our captions. For export.py.

    steps = describe_preprocessing(image_processor)         # for config.json, in plain words
    check_preprocessing(image_processor, steps, images)     # raises UserError where they do not say it all
    part_differences(modules, exported, pixels)             # {"encoder": 1.2e-6, "prefill": ..., "step": ...}
    compare_captions(captioner, exports, pictures, settings)

U pictures, K captions of each, T tokens so far.
"""

import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from basics.errors import UserError
from basics.settings import Settings
from caption_onnx import ExportedCaptioner, prepare_pixels
from captioner.folder import Captioner
from networks import encoder
from networks.decoding_options import DecodingOptions
from prepare_dataset import is_prepared, read_prepared
from scoring.metrics import score_captions
from sources.images import find_pictures, load_image
from sources.pictures import Pictures, readable_pictures, spread
from sources.shapes import draw_shapes

LEVELS = 2.5  # largest difference of a prepared pixel, of 255: what rounds otherwise, not what is resized otherwise
ODD_SIZES = ((33, 97), (401, 57), (96, 96), (641, 427), (250, 333), (31, 500))  # width, height
BEAMS = (1, 3)
BATCH = 25  # pictures captioned at once


def describe_preprocessing(processor) -> dict:
    """The steps of an image processor of timm or transformers. Raises UserError where a step is unknown."""
    steps = {"resize": None, "filter": "bilinear", "width_first": False, "crop": None}
    steps |= {"scale": 1.0, "mean": [0.0] * 3, "std": [1.0] * 3}
    try:
        if hasattr(processor, "val_transforms"):
            return steps | timm_steps(processor.val_transforms.transforms)
        return steps | transformers_steps(processor.to_dict(), processor)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{type(processor).__name__} has steps that cannot be exported ({error})") from error


def timm_steps(transforms: list) -> dict:
    steps = {}
    for step in transforms:
        match type(step).__name__:
            case "Resize" if isinstance(step.size, int):
                steps |= {"resize": {"shortest_edge": step.size}, "filter": step.interpolation.value}
            case "Resize":
                height, width = step.size
                steps |= {"resize": {"height": height, "width": width}, "filter": step.interpolation.value}
            case "CenterCrop":
                steps["crop"] = {"height": step.size[0], "width": step.size[1], "rounding": "nearest"}
            case "ToTensor" | "MaybeToTensor":
                steps["scale"] = 1 / 255
            case "Normalize":
                steps |= {"mean": [float(m) for m in step.mean], "std": [float(s) for s in step.std]}
            case name:
                raise ValueError(name)
    return steps


def transformers_steps(values: dict, processor) -> dict:
    steps = {"filter": Image.Resampling(values["resample"]).name.lower()}
    steps["width_first"] = getattr(processor, "backend", "") == "torchvision"
    size = {name: int(number) for name, number in values["size"].items()}
    crop = values["crop_size"] if values.get("do_center_crop") else None
    if "crop_pct" in values and size["shortest_edge"] < 384:  # ConvNeXt's
        side = size["shortest_edge"]
        size, crop = {"shortest_edge": int(side / values["crop_pct"])}, {"height": side, "width": side}
    elif "crop_pct" in values:
        size = {"height": size["shortest_edge"], "width": size["shortest_edge"]}
    if size.keys() not in ({"height", "width"}, {"shortest_edge"}):
        raise ValueError(f"size {size}")
    steps["resize"] = size if values["do_resize"] else None
    if crop:
        steps["crop"] = {"height": crop["height"], "width": crop["width"], "rounding": "down"}
    steps["scale"] = values["rescale_factor"] if values["do_rescale"] else 1.0
    if values["do_normalize"]:
        steps |= {"mean": list(values["image_mean"]), "std": list(values["image_std"])}
    return steps


def check_preprocessing(processor, steps: dict, images: list[Image.Image]) -> float:
    """The largest difference to the processor's own pixels, in 255ths. Raises UserError where it is no rounding."""
    worst, unit = 0.0, np.array(steps["std"])[:, None, None] / steps["scale"]
    for image, size in zip(images, itertools.cycle(ODD_SIZES)):
        for picture in (image, image.resize(size)):
            expected, got = encoder.prepare_pixels(processor, [picture])[0].numpy(), prepare_pixels(picture, steps)
            same_size = expected.shape == got.shape
            worst = float(np.maximum(worst, (np.abs(expected - got) * unit).max() if same_size else math.inf))
    if not worst <= LEVELS:
        raise UserError(
            f"{type(processor).__name__} cannot be reproduced without PyTorch: its pixels differ by "
            f"{worst:.1f} of 255, {LEVELS} are allowed"
        )
    return worst


def part_differences(modules: dict[str, nn.Module], exported: ExportedCaptioner, pixels: torch.Tensor) -> dict:
    """The largest difference to PyTorch of each part, over several U and K and every cache length."""
    worst = dict.fromkeys(modules, 0.0)
    generator = torch.Generator().manual_seed(0)

    def compare(name: str, *inputs: torch.Tensor | list) -> list[torch.Tensor]:
        expected = modules[name](*inputs)
        flat = [tensor for value in inputs for tensor in (value if isinstance(value, list) else [value])]
        found = getattr(exported, name)(*(tensor.numpy() for tensor in flat))
        for one, other in zip(expected, found, strict=True):
            worst[name] = float(np.maximum(worst[name], np.abs(one.numpy() - other).max()))  # NaN stays NaN
        return expected

    vocab_size = modules["prefill"].decoder.token_embedding.num_embeddings
    for U, K in ((1, 1), (len(pixels), 1), (2, 3)):
        cross = compare("encoder", pixels[:U])
        _, *own = compare("prefill", torch.full((U, K), exported.start_id), cross)
        for _ in range(exported.max_seq_len - 1):
            _, *own = compare("step", torch.randint(vocab_size, (U, K), generator=generator), cross, own)
    return worst


def check_pictures(folder: str | None, settings: Settings, count: int, drawn: Path) -> Pictures:
    """Pictures of the folder; else of the validation split; else drawn ones. References where there are any."""
    if folder is not None:
        paths = find_pictures([folder])
        places = spread(count, len(paths))
        return readable_pictures(Pictures(folder, [paths[i] for i in places], [[]] * len(places), []))
    try:
        data = read_prepared(settings.data_path) if is_prepared(settings.data_path) else None
    except UserError:  # the pictures have moved since
        data = None
    if data is not None and (names := data.splits["val"]):
        names = [names[i] for i in spread(count, len(names))]
        paths, references = [data.image_dir / name for name in names], [data.captions[name] for name in names]
        return readable_pictures(Pictures("validation", paths, references, []))
    captions = draw_shapes(drawn, count, seed=0)
    return Pictures("drawn", [drawn / name for name in captions], list(captions.values()), [])


def compare_captions(captioner: Captioner, exports: dict, pictures: Pictures, settings: Settings) -> str:
    """A table: size, speed and captions of PyTorch and of the exports, {name: (ExportedCaptioner, bytes)}."""
    options = {"max_seq_len": captioner.model.max_seq_len, "length_penalty": settings.LENGTH_PENALTY}

    def in_pytorch(images: list[Image.Image], beam: int) -> list[str]:
        return [row[0][0] for row in captioner.caption(images, DecodingOptions(beam_size=beam, **options))]

    def exported(model: ExportedCaptioner) -> Callable:
        return lambda images, beam: [text for text, _ in model.caption(images, beam, settings.LENGTH_PENALTY)]

    weights = sum(tensor.nbytes for tensor in captioner.model.state_dict().values())
    systems = {"PyTorch": (in_pytorch, weights)} | {name: (exported(m), size) for name, (m, size) in exports.items()}
    lines = [f"{'':<12} {'size':>10}  {'beam':>4}  {'pictures/s':>10}  {'CIDEr-D':>7}  equal captions"]
    for beam in BEAMS:
        ours = None
        for name, (caption, size) in systems.items():
            captions, seconds = timed_captions(caption, pictures.paths, beam)
            ours = ours or captions
            equal = sum(a == b for a, b in zip(captions, ours))
            lines.append(
                f"{name:<12} {size / 1e6:>7.1f} MB  {beam:>4}  {len(captions) / seconds:>10.1f}  "
                f"{cider(captions, pictures.references):>7}  {equal} of {len(captions)}"
            )
    return "\n".join(lines)


def timed_captions(caption: Callable, paths: list[Path], beam: int) -> tuple[list[str], float]:
    """The captions, and the seconds they took from decoded picture to text."""
    captions, seconds = [], 0.0
    for start in range(0, len(paths), BATCH):
        images = [load_image(path) for path in paths[start : start + BATCH]]
        began = time.perf_counter()
        captions += caption(images, beam)
        seconds += time.perf_counter() - began
    return captions, seconds


def cider(captions: list[str], references: list[list[str]]) -> str:
    return f"{score_captions(captions, references).mean['CIDEr-D']:.3f}" if all(references) else "-"
