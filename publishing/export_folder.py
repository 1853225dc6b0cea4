"""The folder that export.py writes: its place, its files, and of this project what runs it alone.

output = find_output(None, "checkpoints/my-run/best", "onnx")   # refuses a folder of anything but an older export
agree_to_replace(output, overwrite=False)                       # and an older export, unless someone says yes
copy_code(folder, "caption_onnx.py")                            # and all it imports
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
from typing import Generic, Protocol, TypeVar

from PIL import Image

from basics.errors import UserError
from basics.files import write_atomically
from basics.settings import Settings
from captioner.exported import ONNX_PARTS
from classifier.exported import ONNX_MODEL
from sources.pictures import Pictures
from sources.shards.picture import Picture

M = TypeVar("M")  # ExportedCaptioner, ExportedClassifier
ROOT = Path(__file__).parents[1]
CAPTIONER, CLASSIFIER = MODEL_TYPES = ("exported-captioner", "exported-classifier")
SHARED_WEIGHTS = "decoder.weights"  # the decoder's, stored once for all parts that have them (ONNX)
PROGRAMS = ("encoder.pt2", "prefill.pt2", "step.pt2")
CLASSIFIER_PROGRAM = "model.pt2"
VOCABULARIES = {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"}  # ours, a language model's
PARTS = {*ONNX_PARTS, *PROGRAMS, SHARED_WEIGHTS, ONNX_MODEL, CLASSIFIER_PROGRAM}
WRITTEN = {"config.json", *VOCABULARIES, *PARTS, "README.md"}  # and config.json's code
MEASURED = """
Measured when this was exported, beside what it was made of, from decoded picture to {answer}:

```text
{lines}
```
"""


def say_phase(phase: str, what: str) -> None:
    """What takes its time from here on; bars are for terminals alone."""
    print(f"{phase:<16}{what}", flush=True)


@dataclass
class Export(Generic[M]):
    """A folder that was written, opened; `differences` are those to PyTorch, by part."""

    weights: str  # float32 or int8
    folder: Path
    model: M
    differences: dict[str, float]

    def files(self) -> list[Path]:
        """Without the code, largest first."""
        files = [path for path in self.folder.iterdir() if path.name in WRITTEN]
        return sorted(files, key=lambda path: (-path.stat().st_size, path.name))

    @property
    def size(self) -> int:
        """Bytes, without the code."""
        return sum(path.stat().st_size for path in self.files())


class Exportable(Protocol):
    """What export.py needs of a captioner or a classifier."""

    answers: str  # what is compared
    answer: str  # one of them, in short
    script: str  # what runs the export alone

    @property
    def settings(self) -> Settings | None:
        """Those that name the pictures it was trained on, if any do."""
        ...

    @property
    def float_arithmetic(self) -> str | None:
        """Why its arithmetic stays float32 with int8 weights; None where it need not."""
        ...

    def export(
        self, images: list[Image.Image], form: str, weights: list[str], work: Path, calibration: list[Picture]
    ) -> tuple[float, list[Export]]:
        """Folders in work, checked, and how far pixels differ, in 255ths. Raises UserError."""
        ...

    def compare(self, exports: list[Export], pictures: Pictures) -> Iterator[str]:
        """The lines of a table, each when it is known: PyTorch and the exports on pictures."""
        ...


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
        of_us, written = config.get("model_type") in MODEL_TYPES, WRITTEN | set(config.get("code", []))
    except (OSError, ValueError, AttributeError, TypeError):
        return False
    written |= {parent.as_posix() for name in written for parent in Path(name).parents}
    found = (path.relative_to(folder) for path in folder.rglob("*"))
    return of_us and {path.as_posix() for path in found if "__pycache__" not in path.parts} <= written


def code_files(script: str) -> list[str]:
    """The script that runs an export alone, and all of this project that it imports, below the root."""
    found, waiting = set(), [script]
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


def copy_code(folder: Path, script: str) -> None:
    for name in code_files(script):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)


def write_measured(folder: Path, answer: str, lines: list[str]) -> None:
    """What comparing said, into README.md."""
    path = folder / "README.md"
    measured = MEASURED.format(answer=answer, lines="\n".join(lines))
    write_atomically(path, path.read_text(encoding="utf-8") + measured)


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
