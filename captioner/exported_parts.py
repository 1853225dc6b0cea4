"""What all exports in use have in common, without PyTorch: their files, preprocessing, sessions of onnxruntime.

    check_exported(folder, ["config.json", "model.onnx"], "classify")     # raises UserError
    session = open_session(folder / "model.onnx", eight_bit=False)
    logits, *_ = run_session(session, pixels_of(image, steps)[None])

Every exported folder has a copy of this file and of what it imports: neither torch nor transformers may be among that.
"""

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from basics.errors import UserError, reason_of
from basics.stored import Number

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

CPU_FLAGS = Path("/proc/cpuinfo")
SIDE, FACTOR = Number(int, 1, 2048), Number(float, -1e6, 1e6)
PREPROCESSING = {  # of config.json
    "resize": (None, {"shortest_edge?": SIDE, "width?": SIDE, "height?": SIDE}),
    "filter": (None, str),
    "width_first": bool,
    "crop": (None, {"width": SIDE, "height": SIDE, "rounding": str}),
    "mean": [FACTOR],
    "std": [FACTOR],
    "scale": FACTOR,
}
Arrays = list[np.ndarray]
PartFunction = Callable[..., Arrays]


def own_export(script: str, parts: Iterable[str]) -> Path:
    """The export that a copy of a script lies in."""
    folder = Path(script).parent
    if not any((folder / name).exists() for name in parts):
        raise UserError(f"no export lies beside {Path(script).name}; name the folder that export.py wrote with --model")
    return folder


def check_exported(folder: Path, needed: Sequence[str], verb: str, packages: Sequence[str] = ()) -> None:
    """Raises UserError where a file of the folder, onnxruntime or a further package is missing."""
    if missing := [name for name in needed if not (folder / name).is_file()]:
        raise UserError(f"{folder} is no ONNX export: it lacks {', '.join(missing)}; make one with export.py")
    packages = ["onnxruntime", *packages]
    try:
        for name in packages:
            __import__(name)
    except ImportError as error:
        raise UserError(f"{error}; to {verb} without PyTorch: pip install {' '.join(packages)}") from None


@contextmanager
def opening(folder: Path) -> Iterator[None]:
    """What fails within is said to be damaged: onnxruntime and tokenizers raise what they like on such files."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{folder} is damaged: {reason_of(error)}") from error


def open_session(model: Path | bytes, eight_bit: bool) -> "InferenceSession":
    """A part on the CPU. Unless it was calibrated for 8-bit arithmetic, int8 weights become floats here, once."""
    import onnxruntime  # said to be missing in one line, by check_exported()

    options = onnxruntime.SessionOptions()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0  # 0: one thread a core
    options.add_session_config_entry("session.disable_quant_qdq", "0" if eight_bit else "1")
    options.add_session_config_entry("session.x64quantprecision", "1" if may_overflow() else "0")
    # or convolutions left in float32 become 8-bit ones after all, with one scale for all outputs
    left_out = ["WeightBiasQuantization"]
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model, options, providers=providers, disabled_optimizers=left_out)


def may_overflow() -> bool:
    """Whether sums of 8-bit products overflow on this CPU if not computed in a slower way: x86 without VNNI."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        return "vnni" not in CPU_FLAGS.read_text(encoding="utf-8")
    except OSError:  # no Linux: right and slower
        return True


def run_session(session: "InferenceSession", *arrays: np.ndarray) -> Arrays:
    return session.run(None, {place.name: array for place, array in zip(session.get_inputs(), arrays, strict=True)})


def pixels_of(image: Image.Image, steps: dict) -> np.ndarray:
    """An RGB picture through the preprocessing that config.json describes, -> (3, H, W)."""
    if steps["resize"] is not None:
        width, height = new_size(*image.size, steps["resize"])
        resample = Image.Resampling[steps["filter"].upper()]
        if steps["width_first"]:  # as torchvision does it; Pillow itself picks an order, which matters for odd shapes
            image = image.resize((width, image.height), resample)
        image = image.resize((width, height), resample)
    if steps["crop"] is not None:
        left = first_pixel(image.width, steps["crop"]["width"], steps["crop"]["rounding"])
        top = first_pixel(image.height, steps["crop"]["height"], steps["crop"]["rounding"])
        image = image.crop((left, top, left + steps["crop"]["width"], top + steps["crop"]["height"]))  # black outside
    mean, std = (np.array(steps[name], dtype=np.float32)[:, None, None] for name in ("mean", "std"))
    pixels = np.asarray(image, dtype=np.float32).transpose(2, 0, 1) * np.float32(steps["scale"])
    return (pixels - mean) / std


def new_size(width: int, height: int, resize: dict) -> tuple[int, int]:
    if "shortest_edge" not in resize:
        return resize["width"], resize["height"]
    side, shorter = resize["shortest_edge"], min(width, height)
    longer = int(side * max(width, height) / shorter)
    return (side, longer) if width <= height else (longer, side)


def first_pixel(length: int, cropped: int, rounding: str) -> int:
    """Where a central crop begins, below 0 where the picture is the smaller of the two."""
    if cropped >= length:
        return -((cropped - length) // 2)
    return round((length - cropped) / 2) if rounding == "nearest" else (length - cropped) // 2


def blank_pixels(steps: dict) -> np.ndarray:
    """Of a black picture, (1, 3, H, W): to try a part with."""
    return pixels_of(Image.new("RGB", (64, 64)), steps)[None]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Places (U, count) of the largest of (U, N), largest first."""
    places = np.argpartition(-values, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(values, places, 1), axis=1, kind="stable")
    return np.take_along_axis(places, order, 1)
