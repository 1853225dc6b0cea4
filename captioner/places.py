"""Where models lie and which task they have, told without torch: the newest one here, members of ensembles, others'.

task_of("checkpoints/my-run/best")      # "caption" or "classify"
"""

import warnings
from pathlib import Path
from typing import Any

from basics.errors import UserError
from basics.files import recover_folder
from basics.hub_files import download, explain, may_be_hub_id, patience
from basics.stored import json_of

EXPECTED = "expected a best/ folder, a checkpoint_*.pt file or a Hub id like user/name"
ROOT = Path(__file__).parents[1]
FILES = ["*.json", "*.txt", "*.safetensors", "encoder/*"]  # of a model on the Hub that may not be ours


def newest_best(checkpoint_dir: str, task: str | None = None) -> Path:
    """The best/ that was written last, of any task or of that one: of this folder, else of the project's.

    Raises UserError where there is none.
    """
    here, projects = Path(checkpoint_dir), ROOT / checkpoint_dir
    places = [here] if here.resolve() == projects.resolve() else [here, projects]
    for place in places:
        for old in place.glob("*/best.old"):
            recover_folder(old.with_name("best"))
        folders = [path.parent for path in place.glob("*/best/config.json")]
        if folders := [folder for folder in folders if task is None or task == task_of(str(folder))]:
            return max(folders, key=lambda folder: (folder / "config.json").stat().st_mtime)
    looked = " or ".join(f"{place.absolute()}/" for place in places)
    wanted = {"caption": "captioner", "classify": "classifier"}.get(task or "", "captioner or classifier")
    raise UserError(f"no trained {wanted} in {looked}; run `python train.py` first, or name one with --checkpoint")


def members(name: str | Path) -> list[str]:
    """The captioners of an ensemble, which commas part, or the one that there is."""
    parts = [part for part in map(str.strip, str(name).split(",")) if part]
    return [str(name)] if Path(name).expanduser().exists() or not parts else parts


def on_this_machine(name: str | Path) -> Path | None:
    """The file or folder of that name; None where it may be on the Hub. Raises UserError where it can be neither."""
    path = Path(name).expanduser()
    if path.exists():
        return path
    if path.suffix in (".pt", ".safetensors") or not may_be_hub_id(str(name)):
        raise UserError(f"there is no {name}; {EXPECTED}")
    return None


def check_place(name: str) -> None:
    """Raises UserError where the captioner, or a member of the ensemble, can be neither here nor on the Hub."""
    for member in members(name):
        on_this_machine(member)


def fetched(name: str) -> str:
    """The same name where it is of this machine or of an ensemble; of a Hub id the folder it was downloaded to.

    Raises UserError.
    """
    if len(members(name)) > 1:
        return name
    recover_folder(Path(name).expanduser())
    return str(on_this_machine(name) or download(name))


def task_of(name: str) -> str:
    """The task of a model in a folder, in a checkpoint file or on the Hub, or of an ensemble: "caption" or "classify".

    A Hub id is downloaded. What is no model counts as a captioner, whose loader says what is wrong. Raises UserError.
    """
    if len(names := members(name)) > 1:
        for member in names:
            if (path := on_this_machine(member)) and is_classifier(path):
                raise UserError(f"{member} is a classifier, and an ensemble has captioners only; name one alone")
        return "caption"
    return "classify" if is_classifier(Path(fetched(name))) else "caption"


def is_classifier(path: Path) -> bool:
    """Whether a folder or checkpoint file holds a classifier: of this project, of transformers or of timm."""
    if path.is_file():
        return "classifier" in parts_of_checkpoint(path)
    if (path / "training.json").is_file():
        return True  # which only classifiers have
    config = content_of(path / "config.json")
    architectures = config.get("architectures")
    timms = isinstance(config.get("architecture"), str) and "pretrained_cfg" in config
    return timms or isinstance(architectures, list) and any("ForImageClassification" in str(a) for a in architectures)


def content_of(file: Path) -> dict[str, Any]:
    """A JSON mapping; {} where it is none."""
    try:
        content = json_of(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def parts_of_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint file without its tensors' bytes, which are read when they are looked at; {} where it is none."""
    import torch  # takes seconds: only for a checkpoint file, which needs it to load too

    from basics.checkpoint_file import check_archive  # it imports torch

    try:
        check_archive(path)  # packed parts would be unpacked into memory
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle that is refused
            content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception:  # damaged, unsafe or no checkpoint: its loader says so
        return {}
    return content if isinstance(content, dict) else {}


def locate(name: str, what: str = "captioner", expected: str = EXPECTED) -> Path:
    """The folder or file of any model, ours or not, downloaded from the Hub where it is not here. Raises UserError."""
    path = Path(name).expanduser()
    if path.exists():
        return path
    if not may_be_hub_id(name):
        raise UserError(f"there is no {what} {name}; {expected}")
    from huggingface_hub import snapshot_download  # takes its time to import

    try:
        with patience():
            folder = Path(snapshot_download(name, allow_patterns=FILES))
            if not any(folder.glob("*.safetensors")):  # older models; transformers reads it with weights_only
                folder = Path(snapshot_download(name, allow_patterns=[*FILES, "pytorch_model.bin"]))
        return folder
    except Exception as error:  # its errors have no common base: HTTP, cache, names
        raise UserError(f"cannot load the {what} {name} from the Hub: {explain(error, name)}") from error


def model_type(folder: Path) -> str | None:
    """What its config.json says it is: "git", "image-to-text" for a captioner of this project, ...; None: nothing."""
    kind = content_of(folder / "config.json").get("model_type")
    return kind if isinstance(kind, str) else None
