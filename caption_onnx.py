"""Caption pictures with what export.py wrote, by onnxruntime alone: neither torch nor transformers is needed.

    python caption_onnx.py photo.jpg --model exported/
    python caption_onnx.py photos/ more.jpg --model exported/ --beam 3
    cd exported && python caption_onnx.py photo.jpg     # an export has a copy of this file and of all it imports

    pip install onnxruntime tokenizers numpy Pillow     # all it takes

The captions are those of inference.py. A picture that cannot be read gets a line on stderr, the others go on, and the
exit status is 1. OMP_NUM_THREADS is heeded.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from basics.errors import UserError, run_script
from captioner.exported import ONNX_PARTS, ExportedCaptioner, open_onnx
from sources.images import ImageError, find_pictures, load_image

HERE = Path(__file__).parent


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python caption_onnx.py", description="Caption pictures without PyTorch.", allow_abbrev=False
    )
    parser.add_argument("pictures", nargs="+", help="picture files, folders of pictures, or patterns")
    parser.add_argument("--model", help="the folder that export.py wrote; default: that of this file, if it is one")
    parser.add_argument("--beam", type=int, help="beams, 1 is greedy; default: BEAM_SIZE of the training run")
    parser.add_argument("--length-penalty", type=float, help="default: LENGTH_PENALTY of the training run")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures captioned at once")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


def own_export() -> Path:
    """The export that this copy of the script lies in."""
    if not any((HERE / name).exists() for name in ONNX_PARTS):
        raise UserError("no export lies beside caption_onnx.py; name the folder that export.py wrote with --model")
    return HERE


def caption_paths(
    captioner: ExportedCaptioner, paths: list[Path], batch_size: int, beam: int, length_penalty: float
) -> Iterator[tuple[Path, str | None]]:
    """Each picture with its caption, in order; None, and a line on stderr, for one that cannot be read."""
    for start in range(0, len(paths), batch_size):
        batch, images = paths[start : start + batch_size], {}
        for path in batch:
            try:
                images[path] = load_image(path)
            except ImageError as error:
                print(f"error: {error}", file=sys.stderr)
        captions = iter(captioner.caption(list(images.values()), beam, length_penalty) if images else [])
        yield from ((path, next(captions)[0] if path in images else None) for path in batch)


def main(argv: list[str]) -> int:
    arguments = parse_arguments(argv)
    paths = find_pictures(arguments.pictures)
    captioner = open_onnx(arguments.model or own_export())
    beam = captioner.beam_size if arguments.beam is None else arguments.beam
    length_penalty = captioner.length_penalty if arguments.length_penalty is None else arguments.length_penalty
    if min(beam, arguments.batch_size) < 1 or length_penalty < 0:
        raise UserError("--beam and --batch-size must be 1 or more, --length-penalty 0 or above")
    failed = False
    for path, caption in caption_paths(captioner, paths, arguments.batch_size, beam, length_penalty):
        failed |= caption is None
        if caption is not None:
            print(caption if len(paths) == 1 else f"{path}\t{caption}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    run_script(main)
