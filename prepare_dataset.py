"""Make a dataset ready: captions, splits by image, a check of every picture, a short report.

    python prepare_dataset.py                                       # the drawn shapes
    python prepare_dataset.py --dataset flickr8k --raw-dir PATH     # any raw form, recognised by looking

Writes DATA_DIR/<DATASET>/: captions.json ({"image file name": ["caption", ...]}), splits.json (three lists),
dataset.json (where the images lie and what all was made from) and bad_images.txt. train.py calls it too; where nothing
has changed it does nothing.
"""

import hashlib
import json
import shlex
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from basics.errors import UserError, run_script
from basics.files import write_atomically
from basics.settings import Settings, help_text, load_settings
from sources.archives import stamps
from sources.caption_files import RawCaptions, read_captions
from sources.data_report import data_report, format_report
from sources.images import ImageError, load_image
from tokenizer import build_tokenizer

USAGE = "python prepare_dataset.py [--dataset NAME] [--raw-dir PATH] [--setting VALUE ...]"
SPLITS = ("train", "val", "test")
HUB_FILES = ("flickr_annotations_30k.csv", "flickr30k-images.zip")
INPUT_SETTINGS = ("DATASET", "SEED", "VAL_FRACTION", "TEST_FRACTION", "BAD_IMAGE_LIMIT")  # decide the result


@dataclass
class PreparedData:
    """captions {name: [caption, ...]}, splits {"train" | "val" | "test": [name, ...]}, folder of the images."""

    captions: dict[str, list[str]]
    splits: dict[str, list[str]]
    image_dir: Path

    def captions_of(self, split: str) -> list[str]:
        return [caption for name in self.splits[split] for caption in self.captions[name]]


def prepare(settings: Settings) -> PreparedData:
    """The prepared data of DATASET, made where it is not there yet or its raw files have changed."""
    return PREPARERS[settings.DATASET](settings)


def prepare_shapes(settings: Settings) -> PreparedData:
    inputs = {**input_settings(settings), "SHAPES_NUM_IMAGES": settings.SHAPES_NUM_IMAGES}
    if (data := prepared_already(settings, inputs)) is not None:
        return data
    from sources.shapes import draw_shapes

    image_dir = settings.data_path / "images"
    captions = draw_shapes(image_dir, settings.SHAPES_NUM_IMAGES, settings.SEED)
    return finish(settings, RawCaptions("drawn shapes", captions, image_dir=image_dir), inputs)


def prepare_flickr8k(settings: Settings) -> PreparedData:
    return prepare_raw(settings)


def prepare_flickr30k(settings: Settings) -> PreparedData:
    """From RAW_DIR, or downloaded from the Hub."""
    if settings.RAW_DIR is None and not is_prepared(settings.data_path):
        settings = settings.replace(RAW_DIR=str(download_flickr30k(settings)))
    return prepare_raw(settings)


def prepare_coco(settings: Settings) -> PreparedData:
    return prepare_raw(settings)


def prepare_folder(settings: Settings) -> PreparedData:
    """Your own pictures, with captions.csv, captions.tsv, captions.jsonl or one .txt a picture."""
    return prepare_raw(settings)


PREPARERS = {
    "shapes": prepare_shapes,
    "flickr8k": prepare_flickr8k,
    "flickr30k": prepare_flickr30k,
    "coco": prepare_coco,
    "folder": prepare_folder,
}


def prepare_raw(settings: Settings) -> PreparedData:
    """Read RAW_DIR whatever its form; what was prepared before is used where RAW_DIR is gone or not named."""
    if settings.RAW_DIR is None:
        print(f"data         {settings.data_path} is prepared")
        return read_prepared(settings.data_path)
    raw_dir, seed = Path(settings.RAW_DIR).expanduser(), seed_of_splits(settings)
    raw = read_captions(raw_dir, settings.data_path)
    if seed != settings.SEED and not raw.splits:
        print(f"splits       stay as SEED {seed} made them (delete {settings.data_path}/dataset.json to split anew)")
    settings = settings.replace(SEED=seed)
    inputs = {**input_settings(settings), "raw_dir": str(raw_dir.resolve()), "files": fingerprints(raw.files)}
    if raw.archives:
        inputs["archives"] = stamps(raw.archives)
    if (data := prepared_already(settings, inputs)) is not None:
        return data
    return finish(settings, raw, inputs)


def seed_of_splits(settings: Settings) -> int:
    """SEED, or the one that split this data first: another seed of training must not move pictures into validation."""
    manifest = settings.data_path / "dataset.json"
    if not manifest.is_file():
        return settings.SEED
    return read_json(manifest, ("inputs",))["inputs"].get("SEED", settings.SEED)


def download_flickr30k(settings: Settings) -> Path:
    """Both files of FLICKR30K_REPO_ID, with huggingface_hub's own progress bars -> the folder that holds them."""
    from huggingface_hub import hf_hub_download

    try:
        paths = [Path(hf_hub_download(settings.FLICKR30K_REPO_ID, name, repo_type="dataset")) for name in HUB_FILES]
    except Exception as error:  # its errors have no common base: HTTP, cache, names
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"cannot download {settings.FLICKR30K_REPO_ID} ({reason}); put {' and '.join(HUB_FILES)}, or another form "
            "of Flickr30k, into a folder and name it with --raw-dir"
        ) from error
    return paths[0].parent


def input_settings(settings: Settings) -> dict:
    return {name: getattr(settings, name) for name in INPUT_SETTINGS}


def fingerprints(files: list[Path]) -> list[list]:
    """[name, size, hash] of each caption file: what a change is noticed by."""
    return [[path.name, path.stat().st_size, file_hash(path)] for path in files]


def file_hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_prepared(data_path: Path) -> bool:
    return all((data_path / name).is_file() for name in ("captions.json", "splits.json", "dataset.json"))


def prepared_already(settings: Settings, inputs: dict) -> PreparedData | None:
    """What lies there if it was made from the same inputs, None if it is to be made.

    Raises UserError where making it again would overwrite files that were edited by hand.
    """
    data_path = settings.data_path
    if not is_prepared(data_path):
        return None
    manifest = read_json(data_path / "dataset.json", ("inputs", "outputs", "source", "image_dir"))
    if manifest["inputs"] == json.loads(json.dumps(inputs)):
        print(f"data         {data_path} is prepared ({manifest['source']})")
        return read_prepared(data_path)
    changed = [name for name in {**manifest["inputs"], **inputs} if manifest["inputs"].get(name) != inputs.get(name)]
    edited = [name for name, digest in manifest["outputs"].items() if file_hash(data_path / name) != digest]
    if edited:
        raise UserError(
            f"{data_path} was made from other inputs ({', '.join(changed)}), but {', '.join(edited)} was edited "
            "since; move it away to prepare again, or set DATA_DIR to another folder"
        )
    print(
        f"data         preparing {data_path} again, changed: {', '.join(changed)} (the vocabulary stays; "
        f"delete {settings.vocab_path} and {settings.merges_path} to train it anew)"
    )
    return None


def read_json(path: Path, keys: tuple[str, ...] = ()) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        content, reason = None, str(error)
    else:
        reason = f"expected an object with {', '.join(keys) or 'names'}"
    if not isinstance(content, dict) or any(key not in content for key in keys):
        raise UserError(f"{path} is damaged ({reason}); delete {path.parent}/dataset.json and prepare again")
    return content


def read_prepared(data_path: Path) -> PreparedData:
    """The files as they lie there. Raises UserError when they are damaged or the images have moved."""
    captions, splits = (read_json(data_path / name) for name in ("captions.json", "splits.json"))
    image_dir = data_path / read_json(data_path / "dataset.json", ("image_dir",))["image_dir"]  # absolute stays itself
    unknown = [name for names in splits.values() for name in names if name not in captions]
    if unknown:
        raise UserError(f"{data_path}/splits.json names {unknown[0]}, which captions.json does not hold")
    without = [name for names in splits.values() for name in names if not captions[name]]
    if without:
        raise UserError(f"{data_path}/captions.json has no caption for {without[0]}, which stands in splits.json")
    if not image_dir.is_dir():
        raise UserError(
            f"the images of {data_path} were in {image_dir}, which is gone; put them back, or name the folder "
            "with --raw-dir"
        )
    return PreparedData(captions, {split: splits.get(split, []) for split in SPLITS}, image_dir)


def hash_split(name: str, seed: int, val_fraction: float, test_fraction: float) -> str:
    """The split of an image, from its name and the seed alone: adding files moves no other."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return "val" if place < val_fraction else "test" if place < val_fraction + test_fraction else "train"


def make_splits(raw: RawCaptions, settings: Settings) -> dict[str, list[str]]:
    """The official splits, else hashed ones; always whole images. Raises UserError where one would be useless."""
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    if raw.splits:
        of_image = {name: split for split, names in raw.splits.items() for name in names}  # an image has one split
        for name in raw.captions:
            if name in of_image:
                splits[of_image[name]].append(name)
        if not splits["val"] and settings.VAL_FRACTION:
            raw.notes.append("no official validation split: held out of train by VAL_FRACTION")
            train = splits["train"]
            splits["val"] = [n for n in train if hash_split(n, settings.SEED, settings.VAL_FRACTION, 0) == "val"]
            held_out = set(splits["val"])
            splits["train"] = [n for n in train if n not in held_out]
    else:
        for name in raw.captions:
            splits[hash_split(name, settings.SEED, settings.VAL_FRACTION, settings.TEST_FRACTION)].append(name)
    for split in ("train", "val"):
        if not splits[split]:
            raise UserError(
                f"the {split} split of {raw.source} is empty ({len(raw.captions):,} images in all); "
                "more pictures or another VAL_FRACTION are needed"
            )
    return splits


def check_images(raw: RawCaptions, names: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Open every picture whole -> {name: hash of the file} of the good, {name: reason} of the bad."""

    def check(name: str) -> tuple[str | None, str | None]:
        try:
            load_image(raw.image_dir / name)
            return file_hash(raw.image_dir / name), None
        except (ImageError, OSError) as error:
            return None, str(error)

    good, bad = {}, {}
    with ThreadPoolExecutor() as pool:
        bar = tqdm(
            pool.map(check, names), total=len(names), desc="checking", unit=" pictures", leave=False, disable=None
        )
        for name, (digest, reason) in zip(names, bar):
            if reason is None:
                good[name] = digest
            else:
                bad[name] = reason
    return good, bad


def finish(settings: Settings, raw: RawCaptions, inputs: dict) -> PreparedData:
    """Split, check, leave out what is bad, write, report; dataset.json comes last: nothing counts as made before."""
    data_path = settings.data_path
    splits = make_splits(raw, settings)
    hashes, bad = check_images(raw, list(raw.captions))
    write_atomically(data_path / "bad_images.txt", "".join(f"{name}\t{reason}\n" for name, reason in bad.items()))
    share = len(bad) / len(raw.captions)
    if share > settings.BAD_IMAGE_LIMIT:
        raise UserError(
            f"{len(bad):,} of {len(raw.captions):,} images ({share:.1%}) are missing or unreadable, BAD_IMAGE_LIMIT "
            f"is {settings.BAD_IMAGE_LIMIT:.1%}; they are listed in {data_path / 'bad_images.txt'}"
        )
    (data_path / "dataset.json").unlink(missing_ok=True)
    captions = {name: texts for name, texts in raw.captions.items() if name in hashes}
    splits = {split: [name for name in names if name in hashes] for split, names in splits.items()}
    if unsplit := len(captions) - sum(map(len, splits.values())):
        raw.notes.append(f"{unsplit:,} pictures with captions stand in no official split and are not used")
    write_atomically(data_path / "captions.json", json.dumps(captions, ensure_ascii=False, indent=0))
    write_atomically(data_path / "splits.json", json.dumps(splits, ensure_ascii=False, indent=0))
    data = PreparedData(captions, splits, raw.image_dir)
    tokenizer = build_tokenizer(settings, data.captions_of("train"))
    report = data_report(data, hashes, bad, tokenizer, settings.MAX_SEQ_LEN)
    inside = raw.image_dir.is_relative_to(data_path)
    manifest = {
        "image_dir": str(raw.image_dir.relative_to(data_path) if inside else raw.image_dir.resolve()),
        "source": raw.source,
        "inputs": inputs,
        "outputs": {name: file_hash(data_path / name) for name in ("captions.json", "splits.json")},
        "report": report,
        "notes": raw.notes,
    }
    write_atomically(data_path / "dataset.json", json.dumps(manifest, ensure_ascii=False, indent=2))
    print(format_report(report, raw, data_path))
    return data


def main(argv: list[str]) -> int:
    if "--help" in argv or "-h" in argv:
        print(help_text(USAGE))
        return 0
    prepare(load_settings(argv))
    print(f"next         python train.py {shlex.join(argv)}".rstrip())
    return 0


if __name__ == "__main__":
    run_script(main)
