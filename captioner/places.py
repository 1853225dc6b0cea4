"""Where captioners lie, told without torch: the newest one here, the members of an ensemble, other people's models."""

from pathlib import Path

from basics.errors import UserError
from basics.files import recover_folder
from basics.hub_files import explain, may_be_hub_id, patience
from basics.stored import check, json_of

EXPECTED = "expected a best/ folder, a checkpoint_*.pt file or a Hub id like user/name"
ROOT = Path(__file__).parents[1]
FILES = ["*.json", "*.txt", "*.safetensors", "encoder/*"]  # of a model on the Hub that may not be ours


def newest_best(checkpoint_dir: str) -> Path:
    """The best/ that was written last: of this folder, else of the project's. Raises UserError where there is none."""
    here, projects = Path(checkpoint_dir), ROOT / checkpoint_dir
    places = [here] if here.resolve() == projects.resolve() else [here, projects]
    for place in places:
        for old in place.glob("*/best.old"):
            recover_folder(old.with_name("best"))
        if folders := [path.parent for path in place.glob("*/best/config.json")]:
            return max(folders, key=lambda folder: (folder / "config.json").stat().st_mtime)
    looked = " or ".join(f"{place.absolute()}/" for place in places)
    raise UserError(f"no trained captioner in {looked}; run `python train.py` first, or name one with --checkpoint")


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
    try:
        config = json_of(folder / "config.json")
        check(config, {"model_type": str}, "config.json")
    except (OSError, ValueError):
        return None
    kind: str = config["model_type"]
    return kind
