"""The folder that export.py writes: its place, its files, and of this project what captions with it alone.

output = find_output(None, "checkpoints/my-run/best", "onnx")   # refuses a folder of anything but an older export
agree_to_replace(output, overwrite=False)                       # and an older export, unless someone says yes
write_description(folder, tokenizer, config, pixels)            # config.json, the vocabulary, README.md
copy_code(folder)                                               # caption_onnx.py and all it imports
replace_export(folder, output, work)
"""

import ast
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from basics.errors import UserError
from basics.files import write_atomically
from basics.settings import Settings
from captioner.exported import IDS, ONNX_PARTS, ExportedCaptioner

if TYPE_CHECKING:  # torch takes seconds, and what a user can get wrong about a folder is said before
    from torch import Tensor

    from captioner.folder import Captioner
    from tokenizer import Tokenizer

ROOT = Path(__file__).parents[1]
SCRIPT = "caption_onnx.py"
MODEL_TYPE = "exported-captioner"
SHARED_WEIGHTS = "decoder.weights"  # the decoder's, stored once for all parts that have them (ONNX)
PROGRAMS = ("encoder.pt2", "prefill.pt2", "step.pt2")
VOCABULARIES = {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"}  # ours, a language model's
WRITTEN = {"config.json", *VOCABULARIES, *ONNX_PARTS, *PROGRAMS, SHARED_WEIGHTS, "README.md"}  # and config.json's code
README = """# An exported image captioner

{usage}

A caption starts with token {start_id} and ends at token {end_id} or after {max_seq_len} tokens. {vocabulary} hold the
vocabulary, config.json says how a picture becomes pixels. The parts:

    encoder   pixels              -> keys and values of a picture, cross_key_0, cross_value_0, ... of {layers} layers
    prefill   tokens, cross       -> logits, then keys and values of a caption, new_key_0, new_value_0, ...
    step      tokens, cross, own  -> the same, one token longer; own is what prefill or the last step gave

pixels ({pixels}) float32, tokens (U, K) int64, logits (U, K, {vocab_size}), cross (U, H, S, D), own (U, K, H, T, D):
U pictures, K captions of each, T tokens so far, all free. A picture's keys and values serve all its captions. step
with T = 0 does what prefill does, but for a prompt: there prefill reads its last token in place of {start_id}.
Weights: {weights}{arithmetic}.
"""
EIGHT_BIT = """, and {parts} multiply 8-bit numbers, whose ranges were
seen on pictures: faster on CPUs made for that (VNNI), and not all captions are those of float32"""
MEASURED = """
Measured when this was exported, beside what it was made of, from decoded picture to text:

```text
{lines}
```
"""
USAGE = {
    "onnx": """    pip install onnxruntime tokenizers numpy Pillow
    python caption_onnx.py photo.jpg

That is all it takes: neither PyTorch nor anything of the project that made this folder is needed beside it.""",
    "torch": """    encoder, prefill, step = (
        torch.export.load(f"{name}.pt2").module(check_guards=False) for name in ("encoder", "prefill", "step")
    )
    cross = encoder(pixels)
    logits, *own = prefill(tokens, cross)
    logits, *own = step(tokens, cross, own)

The guards are those of the example sizes; all sizes below were checked.""",
}


def say_phase(phase: str, what: str) -> None:
    """What takes its time from here on; bars are for terminals alone."""
    print(f"{phase:<16}{what}", flush=True)


@dataclass
class Export:
    """A folder that was written, opened; `differences` are those of part_differences(), by part."""

    weights: str  # float32 or int8
    folder: Path
    captioner: ExportedCaptioner
    differences: dict[str, float]

    def files(self) -> list[Path]:
        """Without the code, largest first."""
        files = [path for path in self.folder.iterdir() if path.name in WRITTEN]
        return sorted(files, key=lambda path: (-path.stat().st_size, path.name))

    @property
    def size(self) -> int:
        """Bytes, without the code."""
        return sum(path.stat().st_size for path in self.files())


def find_output(output: str | None, checkpoint: str, name: str) -> Path:
    """The folder to write, `name` beside the checkpoint if none is given; it may hold an older export, nothing else."""
    parent = Path(checkpoint).parent if Path(checkpoint).exists() else Path(checkpoint.replace("/", "-"))
    folder = (Path(output).expanduser() if output else parent / name).resolve()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder with --output")
    if folder.is_dir() and any(folder.iterdir()) and not is_export(folder):
        raise UserError(f"{folder} holds other files than an export; name an empty or new folder with --output")
    return folder


def agree_to_replace(output: Path, overwrite: bool) -> None:
    """Ask whether an older export may go. Raises UserError where nobody says so."""
    if overwrite or not output.is_dir() or not any(output.iterdir()):
        return
    if not sys.stdin.isatty():
        raise UserError(f"{output} holds an older export; --overwrite replaces it, --output names another folder")
    print(f"{output} holds an older export. Replace it? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UserError(f"{output} is left as it is")


def is_export(folder: Path) -> bool:
    """Whether an export, and what running it leaves, is all that the folder holds."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        of_us, written = config.get("model_type") == MODEL_TYPE, WRITTEN | set(config.get("code", []))
    except (OSError, ValueError, AttributeError, TypeError):
        return False
    written |= {parent.as_posix() for name in written for parent in Path(name).parents}
    found = (path.relative_to(folder) for path in folder.rglob("*"))
    return of_us and {path.as_posix() for path in found if "__pycache__" not in path.parts} <= written


def code_files() -> list[str]:
    """The script that captions with an export alone, and all of this project that it imports, below the root."""
    found, waiting = set(), [SCRIPT]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += imported_files((ROOT / name).read_text(encoding="utf-8"))
    return sorted(found)


def imported_files(code: str) -> list[str]:
    """The files of this project that code imports, and the __init__.py of their folders."""
    modules = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = [Path(*module.split(".")).with_suffix(".py") for module in modules]
    files += [parent / "__init__.py" for file in files for parent in [file.with_suffix(""), *file.parents][:-1]]
    return [file.as_posix() for file in files if (ROOT / file).is_file()]


def copy_code(folder: Path) -> None:
    for name in code_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)


def export_config(captioner: "Captioner", settings: Settings, preprocessing: dict, layers: int, form: str) -> dict:
    """The content of config.json, but for the kind of weights."""
    architecture, tokenizer = captioner.model.architecture, captioner.tokenizer
    return {
        "model_type": MODEL_TYPE,
        "form": form,
        "layers": layers,
        "vocab_size": architecture["decoder_vocab_size"],
        "max_seq_len": architecture["decoder_max_seq_len"],
        **{name: getattr(tokenizer, name) for name in IDS if hasattr(tokenizer, name)},
        "beam_size": settings.BEAM_SIZE,
        "length_penalty": settings.LENGTH_PENALTY,
        "preprocessing": preprocessing,
        "code": code_files() if form == "onnx" else [],
    }


def write_description(folder: Path, tokenizer: "Tokenizer", config: dict, pixels: "Tensor") -> None:
    """config.json, the vocabulary's files and README.md."""
    sizes, vocabulary = ", ".join(["U", *map(str, pixels.shape[1:])]), tokenizer.files()
    parts = config.get("int8_arithmetic")
    arithmetic = EIGHT_BIT.format(parts=", ".join(parts)) if parts else ""
    names = {"usage": USAGE[config["form"]], "vocabulary": " and ".join(vocabulary), "arithmetic": arithmetic}
    readme = README.format(pixels=sizes, **names, **config)
    for name, text in {"config.json": json.dumps(config, indent=2), **vocabulary, "README.md": readme}.items():
        write_atomically(folder / name, text)


def write_measured(folder: Path, lines: list[str]) -> None:
    """What compare_captions() said, into README.md."""
    path = folder / "README.md"
    write_atomically(path, path.read_text(encoding="utf-8") + MEASURED.format(lines="\n".join(lines)))


@contextmanager
def folder_in_the_making(output: Path) -> Iterator[Path]:
    """A temporary folder beside the output, on the same disk."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=output.name + ".", suffix=".tmp", dir=output.parent) as work:
        yield Path(work)


def replace_export(folder: Path, output: Path, work: Path) -> None:
    """The folder becomes output; an older export goes to work, which is temporary."""
    if output.exists():
        os.replace(output, work / "old")
    os.replace(folder, output)


def require_onnx() -> None:
    """Raises UserError where a package that the export to ONNX needs is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error}; the export to ONNX needs: pip install onnx onnxscript onnxruntime") from None
