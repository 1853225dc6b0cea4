"""An image processor in plain words, which need no PyTorch to be followed. For export.py.

steps = describe_preprocessing(image_processor)         # for config.json; captioner/exported_parts.py follows them
check_preprocessing(image_processor, steps, images)     # raises UserError where they do not say it all
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from basics.errors import UserError
from captioner.exported_parts import pixels_of
from networks.encoder import ImageProcessor, prepare_pixels

LEVELS = 2.5  # largest difference of a prepared pixel, of 255: what rounds otherwise, not what is resized otherwise
ODD_SIZES = ((33, 97), (401, 57), (96, 96), (641, 427), (250, 333), (31, 500))  # width, height


def describe_preprocessing(processor: ImageProcessor) -> dict:
    """The steps of an image processor of timm or transformers. Raises UserError where a step is unknown."""
    steps: dict[str, Any] = {"resize": None, "filter": "bilinear", "width_first": False, "crop": None}
    steps |= {"scale": 1.0, "mean": [0.0] * 3, "std": [1.0] * 3}
    try:
        if hasattr(processor, "val_transforms"):
            return steps | timm_steps(processor.val_transforms.transforms)
        return steps | transformers_steps(processor.to_dict(), processor)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{type(processor).__name__} has steps that cannot be exported ({error})") from error


def timm_steps(transforms: Sequence) -> dict:
    steps: dict[str, Any] = {}
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


def transformers_steps(values: dict, processor: ImageProcessor) -> dict:
    steps: dict[str, Any] = {"filter": Image.Resampling(values["resample"]).name.lower()}
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


def check_preprocessing(processor: ImageProcessor, steps: dict, images: list[Image.Image]) -> float:
    """The largest difference to the processor's own pixels, in 255ths. Raises UserError where it is no rounding."""
    worst, unit = 0.0, np.array(steps["std"])[:, None, None] / steps["scale"]
    for image, size in zip(images, itertools.cycle(ODD_SIZES)):
        for picture in (image, image.resize(size)):
            expected, got = prepare_pixels(processor, [picture])[0].numpy(), pixels_of(picture, steps)
            same_size = expected.shape == got.shape
            worst = float(np.maximum(worst, (np.abs(expected - got) * unit).max() if same_size else math.inf))
    if not worst <= LEVELS:
        raise UserError(
            f"{type(processor).__name__} cannot be reproduced without PyTorch: its pixels differ by "
            f"{worst:.1f} of 255, {LEVELS} are allowed"
        )
    return worst
