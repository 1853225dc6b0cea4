"""Export a captioner to run without this project: ONNX, which needs no PyTorch either, or torch.export programs.

    python export.py                                              # the newest best/ -> onnx/ beside it
    python export.py --checkpoint PATH --format onnx --int8 --output exported/
    python export.py --checkpoint PATH --format torch

Writes encoder, prefill (the first token) and step (one more token with cached keys and values) as .onnx or .pt2 files,
config.json, vocab.json, merges.txt and a README.md. Before the folder appears it is checked: every part against PyTorch
at every cache length, and the captions of 100 pictures, from file to text, by caption_onnx.py against ours.
Needs: pip install onnx onnxscript onnxruntime. U pictures, K captions of each, side by side, T tokens so far.
"""

import argparse
import json
import os
import tempfile
import warnings
from pathlib import Path

from torch import Tensor

from basics.errors import UserError, run_script
from basics.files import write_atomically
from basics.settings import Settings, constants
from caption_onnx import open_onnx
from captioner.folder import Captioner, load_captioner
from captioner.places import newest_best
from networks.encoder import prepare_pixels
from publishing.export_checks import (
    check_pictures,
    check_preprocessing,
    compare_captions,
    describe_preprocessing,
    part_differences,
)
from publishing.export_parts import (
    make_modules,
    open_programs,
    to_onnx,
    trace,
    with_int8_weights,
    write_onnx,
    write_programs,
)
from sources.images import load_image

TOLERANCE = 1e-4  # largest difference to PyTorch of any number a part gives
MODEL_TYPE = "exported-captioner"
WRITTEN = {"config.json", "vocab.json", "merges.txt", "README.md", "decoder.weights"} | {
    part + suffix for part in ("encoder", "prefill", "step") for suffix in (".onnx", ".pt2")
}
INSTALL = "pip install onnx onnxscript onnxruntime"
README = """# An exported image captioner

{usage}

A caption starts with token {start_id} and ends at token {end_id} or after {max_seq_len} tokens. vocab.json and
merges.txt are a byte-level BPE, config.json says how a picture becomes pixels. The parts:

    encoder   pixels              -> keys and values of a picture, cross_key_0, cross_value_0, ... of {layers} layers
    prefill   tokens, cross       -> logits, then keys and values of a caption, new_key_0, new_value_0, ...
    step      tokens, cross, own  -> the same, one token longer; own is what prefill or the last step gave

pixels ({pixels}) float32, tokens (U, K) int64, logits (U, K, {vocab_size}), cross (U, H, S, D), own (U, K, H, T, D):
U pictures, K captions of each, T tokens so far, all free. A picture's keys and values serve all its captions. step
with T = 0 does what prefill does. Weights: {weights}.
"""
ONNX_USAGE = """    python caption_onnx.py photo.jpg --model THIS_FOLDER

with caption_onnx.py, errors.py and images.py of the project that made it; onnxruntime, tokenizers, numpy and Pillow are
all it needs."""
TORCH_USAGE = """    encoder, prefill, step = (
        torch.export.load(f"{name}.pt2").module(check_guards=False) for name in ("encoder", "prefill", "step")
    )
    cross = encoder(pixels)
    logits, *own = prefill(tokens, cross)
    logits, *own = step(tokens, cross, own)

The guards are those of the example sizes; all sizes below were checked."""


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python export.py", description="Export a captioner.", allow_abbrev=False)
    parser.add_argument("--checkpoint", help="best/ folder, checkpoint_*.pt file or Hub id; default: the newest best/")
    parser.add_argument("--format", choices=("onnx", "torch"), default="onnx", help="form of the parts")
    parser.add_argument("--output", help="folder to write; default: onnx, onnx-int8 or torch beside the checkpoint")
    parser.add_argument("--int8", action="store_true", help="weights as 8-bit numbers: a quarter of the size")
    parser.add_argument("--pictures", help="folder of pictures to check captions on; default: the validation pictures")
    parser.add_argument("--num-pictures", type=int, default=100, help="how many of them, at most")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = parser.parse_args(argv)
    if arguments.int8 and arguments.format == "torch":
        raise UserError("--int8 is for --format onnx")
    if arguments.num_pictures < 1:
        raise UserError("--num-pictures must be 1 or more")
    return arguments


def find_output(arguments: argparse.Namespace, checkpoint: str) -> Path:
    """The folder to write, which may hold an older export but nothing else."""
    name = arguments.format + ("-int8" if arguments.int8 else "")
    parent = Path(checkpoint).parent if Path(checkpoint).exists() else Path(checkpoint.replace("/", "-"))
    output = (Path(arguments.output).expanduser() if arguments.output else parent / name).resolve()
    if output.is_dir() and any(output.iterdir()):
        try:
            old = json.loads((output / "config.json").read_text(encoding="utf-8")).get("model_type")
        except (OSError, ValueError, AttributeError):
            old = None
        if old != MODEL_TYPE or {path.name for path in output.iterdir()} - WRITTEN:
            raise UserError(f"{output} holds other files than an export; name an empty or new folder with --output")
    elif output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file; name a folder with --output")
    return output


def write_description(folder: Path, captioner: Captioner, config: dict, usage: str, pixels: Tensor) -> None:
    """config.json, vocab.json, merges.txt and README.md."""
    write_atomically(folder / "config.json", json.dumps(config, indent=2))
    captioner.tokenizer.save(folder / "vocab.json", folder / "merges.txt")
    sizes = ", ".join(["U", *map(str, pixels.shape[1:])])
    write_atomically(folder / "README.md", README.format(usage=usage, pixels=sizes, **config))


def describe(captioner: Captioner, settings: Settings, preprocessing: dict, weights: str) -> dict:
    """The content of config.json."""
    architecture, tokenizer = captioner.model.architecture, captioner.tokenizer
    return {
        "model_type": MODEL_TYPE,
        "weights": weights,
        "layers": architecture["decoder_layers"],
        "vocab_size": architecture["decoder_vocab_size"],
        "max_seq_len": architecture["decoder_max_seq_len"],
        **{f"{name}_id": getattr(tokenizer, f"{name}_id") for name in ("pad", "start", "end", "unk")},
        "beam_size": settings.BEAM_SIZE,
        "length_penalty": settings.LENGTH_PENALTY,
        "preprocessing": preprocessing,
    }


def write_parts(captioner: Captioner, pixels: Tensor, output_format: str, folders: dict[str, Path]) -> None:
    """The parts as files, in a folder for each kind of weights. Raises UserError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parts = trace(make_modules(captioner.model), pixels, captioner.model.max_seq_len)
            models = {name: to_onnx(part) for name, part in parts.items()} if output_format == "onnx" else {}
    except Exception as error:  # every encoder fails in its own way
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise UserError(f"torch.export cannot follow this captioner: {reason} (--debug shows where)") from error
    if output_format == "torch":
        write_programs(parts, folders["float32"])
        return
    if "int8" in folders:
        write_onnx({name: with_int8_weights(model) for name, model in models.items()}, folders["int8"])
    write_onnx(models, folders["float32"])


def export(captioner: Captioner, settings: Settings, arguments: argparse.Namespace, work: Path) -> Path:
    """Write the folder under work and hold it against PyTorch; prints what it finds. Raises UserError."""
    pictures = check_pictures(arguments.pictures, settings, arguments.num_pictures, work / "drawn")
    images = [load_image(path) for path in pictures.paths[:5]]
    steps = describe_preprocessing(captioner.image_processor)
    levels = check_preprocessing(captioner.image_processor, steps, images)
    pixels = prepare_pixels(captioner.image_processor, (images * 5)[:5])
    folders = {name: work / name for name in ("float32", "int8")[: 1 + arguments.int8]}
    for folder in folders.values():
        folder.mkdir()
    write_parts(captioner, pixels[:2], arguments.format, folders)
    exports = {}
    for name, folder in folders.items():
        config = describe(captioner, settings, steps, name)
        write_description(folder, captioner, config, ONNX_USAGE if arguments.format == "onnx" else TORCH_USAGE, pixels)
        exported = open_onnx(folder) if arguments.format == "onnx" else open_programs(folder)
        differences = part_differences(make_modules(captioner.model), exported, pixels)
        if name == "float32" and not all(difference <= TOLERANCE for difference in differences.values()):
            raise UserError(f"the export differs from PyTorch, at most {TOLERANCE:.0e} is allowed: {differences}")
        exports[name] = exported, sum(path.stat().st_size for path in folder.iterdir())
    for path in sorted(folder.iterdir(), key=lambda path: -path.stat().st_size):
        difference = f"  {differences[path.stem]:.1e} from PyTorch" if path.stem in differences else ""
        print(f"{path.name:<15} {path.stat().st_size / 1e6:>6.2f} MB{difference}")
    print(f"pixels          at most {levels:.1f} of 255 from the encoder's own preprocessing")
    print(f"captions        {len(pictures.paths)} pictures ({pictures.split})")
    print(compare_captions(captioner, exports, pictures, settings))
    return folder


def publish(folder: Path, output: Path, work: Path) -> None:
    """Put the folder in the place of an older export, which goes with the temporary folder."""
    if output.exists():
        os.replace(output, work / "old")
    os.replace(folder, output)


def require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error}; the export to ONNX needs: {INSTALL}") from None


def main(argv: list[str]) -> None:
    arguments = parse_arguments(argv)
    if arguments.format == "onnx":
        require_packages()
    checkpoint = arguments.checkpoint or str(newest_best(constants().CHECKPOINT_DIR))
    output = find_output(arguments, checkpoint)
    captioner = load_captioner(checkpoint)
    settings = constants().replace(**captioner.config["settings"])
    print(f"checkpoint      {checkpoint}")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=output.name + ".", suffix=".tmp", dir=output.parent) as work:
        publish(export(captioner, settings, arguments, Path(work)), output, Path(work))
    print(f"written         {output}")
    if arguments.format == "onnx":
        print(f"next            python caption_onnx.py photo.jpg --model {output}")


if __name__ == "__main__":
    run_script(main)
