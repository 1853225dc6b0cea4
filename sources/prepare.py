"""Make a dataset ready, where that was not done yet or what it is made from has changed.

    with preparing(settings):
        data = prepare(settings, Captions(lambda captions: build_tokenizer(settings, captions)))

Writes DATA_DIR/<DATASET>/: captions.json ({"image file name": ["caption", ...]}), splits.json (three lists),
dataset.json (where the images lie and what all was made from) and bad_images.txt. What a
picture's texts are, captions or its one class, the kind alone knows (sources/kinds.py).
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from basics.errors import UserError
from basics.files import file_hash, write_atomically
from basics.hub_files import explain, patience
from basics.locks import locked
from basics.paths import shown
from basics.progress_bar import progress_bar
from basics.settings import Settings
from sources.archives import stamps
from sources.classes.cifar import download_cifar
from sources.data_report import data_report, format_report, shard_report
from sources.images import LARGE, ImageError, load_image, pixels_of_file
from sources.kinds import Kind
from sources.pixel_budget import PixelBudget
from sources.prepared import SAMPLES, AnyData, PreparedData, broken, is_prepared, read_json, read_prepared
from sources.raw_captions import RawCaptions
from sources.shards.collect import collect
from sources.shards.found import Shard, find_shards
from sources.shards.samples import ShardData
from sources.splits import make_splits, refuse_empty

INPUT_SETTINGS = ("DATASET", "SEED", "VAL_FRACTION", "TEST_FRACTION", "BAD_IMAGE_LIMIT")  # decide the result
HUB_FILES = ("flickr_annotations_30k.csv", "flickr30k-images.zip")


def preparing(settings: Settings) -> AbstractContextManager[None]:
    """To be held while data and vocabulary are prepared: of two first runs one waits, then finds both there."""
    return locked(settings.data_path / "prepare.lock")


def prepare(settings: Settings, kind: Kind) -> AnyData:
    """The prepared data of DATASET, made where it is not there yet or its raw files have changed."""
    return PREPARERS[settings.DATASET](settings, kind)


def prepare_shapes(settings: Settings, kind: Kind) -> AnyData:
    inputs = {**input_settings(settings), "SHAPES_NUM_IMAGES": settings.SHAPES_NUM_IMAGES}
    if (data := prepared_already(settings, inputs, kind)) is not None:
        return data
    image_dir = settings.data_path / "images"
    captions = kind.draw(image_dir, settings.SHAPES_NUM_IMAGES, settings.SEED)
    return write_prepared(settings, RawCaptions("drawn shapes", captions, image_dir=image_dir), inputs, kind)


def prepare_flickr30k(settings: Settings, kind: Kind) -> AnyData:
    """From RAW_DIR, or downloaded from the Hub."""
    if settings.RAW_DIR is None and not is_prepared(settings.data_path):
        settings = settings.replace(RAW_DIR=str(download_flickr30k(settings.FLICKR30K_REPO_ID)))
    return prepare_raw(settings, kind)


def prepare_cifar(settings: Settings, kind: Kind) -> AnyData:
    """From RAW_DIR, or downloaded from its maker."""
    if settings.RAW_DIR is None and not is_prepared(settings.data_path):
        settings = settings.replace(RAW_DIR=str(download_cifar(settings.DATASET, settings.data_path / "download")))
    return prepare_raw(settings, kind)


def prepare_raw(settings: Settings, kind: Kind) -> AnyData:
    """Read RAW_DIR whatever its form; what was prepared before is used where RAW_DIR is gone or not named."""
    if settings.RAW_DIR is None:
        print(f"data         {settings.data_path} is prepared")
        return read_prepared(settings.data_path)
    raw_dir, seed = Path(settings.RAW_DIR).expanduser(), seed_of_splits(settings)
    raw = kind.read(raw_dir, settings.data_path)
    if seed != settings.SEED and not raw.splits:
        print(f"splits       stay as SEED {seed} made them (delete {settings.data_path}/dataset.json to split anew)")
    settings = settings.replace(SEED=seed)
    inputs = {**input_settings(settings), "raw_dir": str(raw_dir.resolve()), "files": fingerprints(raw.files)}
    if raw.archives:
        inputs["archives"] = stamps(raw.archives)
    if raw.listing:
        inputs["listing"] = raw.listing
    if (data := prepared_already(settings, inputs, kind)) is not None:
        return data
    return write_prepared(settings, raw, inputs, kind)


def prepare_shards(settings: Settings, kind: Kind) -> AnyData:
    """Read what SHARDS names, or the shards in RAW_DIR; what was prepared before is used where neither is set."""
    named = settings.SHARDS or settings.RAW_DIR
    if named is None:
        print(f"data         {settings.data_path} is prepared")
        return read_prepared(settings.data_path)
    settings = settings.replace(SEED=seed_of_splits(settings))
    shards = find_shards(named, settings.data_path / "fetched")
    inputs = {**input_settings(settings), "shards": [shard.stamp for shard in shards]}
    if (data := prepared_already(settings, inputs, kind)) is not None:
        return data
    return write_samples(settings, shards, inputs, kind)


PREPARERS: dict[str, Callable[[Settings, Kind], AnyData]] = {  # by DATASET
    "shapes": prepare_shapes,
    "flickr8k": prepare_raw,
    "flickr30k": prepare_flickr30k,
    "coco": prepare_raw,
    "folder": prepare_raw,
    "webdataset": prepare_shards,
    "cifar10": prepare_cifar,
    "cifar100": prepare_cifar,
}


def seed_of_splits(settings: Settings) -> int:
    """SEED, or the one that split this data first: another seed of training must not move pictures into validation."""
    manifest = settings.data_path / "dataset.json"
    if not manifest.is_file():
        return settings.SEED
    seed = read_json(manifest, {"inputs": dict})["inputs"].get("SEED", settings.SEED)
    if type(seed) is not int:
        raise broken(manifest, "expected SEED, a whole number")
    return seed


def download_flickr30k(repo_id: str) -> Path:
    """Both files of the Hub's dataset, with huggingface_hub's own progress bars -> the folder that holds them."""
    from huggingface_hub import hf_hub_download  # takes its time to import

    try:
        with patience():
            paths = [Path(hf_hub_download(repo_id, name, repo_type="dataset")) for name in HUB_FILES]
    except Exception as error:  # its errors have no common base: HTTP, cache, names
        raise UserError(
            f"cannot download {repo_id} ({explain(error, repo_id)}); put {' and '.join(HUB_FILES)}, or another form "
            "of Flickr30k, into a folder and name it with --raw-dir"
        ) from error
    return paths[0].parent


def input_settings(settings: Settings) -> dict:
    return {name: getattr(settings, name) for name in INPUT_SETTINGS}


def fingerprints(files: list[Path]) -> list[list]:
    """[name, size, hash] of each caption file: what a change is noticed by."""
    return [[path.name, path.stat().st_size, file_hash(path)] for path in files]


def prepared_already(settings: Settings, inputs: dict, kind: Kind) -> AnyData | None:
    """What lies there if it was made from the same inputs, None if it is to be made.

    Raises UserError where making it again would overwrite files that were edited by hand.
    """
    data_path = settings.data_path
    if not is_prepared(data_path):
        return None
    manifest = read_json(data_path / "dataset.json", {"inputs": dict, "outputs": dict, "source": str, "image_dir": str})
    if manifest["inputs"] == json.loads(json.dumps(inputs)):
        print(f"data         {data_path} is prepared ({manifest['source']})")
        return read_prepared(data_path)
    refuse_other_folder(settings, manifest["inputs"].get("raw_dir"))
    changed = [name for name in {**manifest["inputs"], **inputs} if manifest["inputs"].get(name) != inputs.get(name)]
    edited = [name for name, digest in manifest["outputs"].items() if file_hash(data_path / name) != digest]
    if edited:
        raise UserError(
            f"{data_path} was made from other inputs ({', '.join(changed)}), but {', '.join(edited)} was edited "
            "since; move it away to prepare again, or set DATA_DIR to another folder"
        )
    print(f"data         preparing {data_path} again, changed: {', '.join(changed)}{kind.stays(settings)}")
    return None


def refuse_other_folder(settings: Settings, before: str | None) -> None:
    """Raises UserError where RAW_DIR is another folder than these data came from, which is still there.

    Two folders would share one vocabulary, and one of them the checkpoints of the other.
    """
    now = Path(settings.RAW_DIR).expanduser().resolve() if settings.RAW_DIR else None
    if now and before and Path(before).is_dir() and Path(before) != now:
        raise UserError(
            f"{settings.data_path} holds the data of {before}; for those of {settings.RAW_DIR} name another folder "
            f"with --data-dir, or move {settings.data_path} away"
        )


def write_prepared(settings: Settings, raw: RawCaptions, inputs: dict, kind: Kind) -> PreparedData:
    """Split, check, leave out what is bad, write, report; dataset.json comes last: nothing counts as made before."""
    data_path = settings.data_path
    splits = make_splits(raw, settings)
    kind.refuse_useless([text for name in splits["train"] for text in raw.captions[name]])
    hashes, bad = check_images(raw.image_dir, list(raw.captions), settings.MAX_IMAGE_MEGAPIXELS)
    list_bad(settings, bad, len(raw.captions))
    (data_path / "dataset.json").unlink(missing_ok=True)
    data = leave_out_bad(raw, splits, hashes)
    outputs = {"captions.json": data.captions, "splits.json": data.splits}
    for name, content in outputs.items():
        write_atomically(data_path / name, json.dumps(content, ensure_ascii=False, indent=0))
    report = data_report(data, hashes, bad, kind, settings)
    raw.notes += kind.notes(data, hashes)
    inside = raw.image_dir.is_relative_to(data_path)
    manifest = {
        "image_dir": str(raw.image_dir.relative_to(data_path) if inside else raw.image_dir.resolve()),
        "source": raw.source,
        "inputs": inputs,
        "outputs": {name: file_hash(data_path / name) for name in outputs},
        "report": report,
        "notes": raw.notes,
        **kind.listed(data),
    }
    write_atomically(data_path / "dataset.json", json.dumps(manifest, ensure_ascii=False, indent=2))
    print(format_report(report, raw.source, raw.notes, kind, data_path))
    return data


def write_samples(settings: Settings, shards: list[Shard], inputs: dict, kind: Kind) -> ShardData:
    """As write_prepared(), from shards; dataset.json comes last here too."""
    data_path = settings.data_path
    (data_path / "dataset.json").unlink(missing_ok=True)
    collected = collect(shards, data_path / SAMPLES, settings, kind.text_files, kind.problem)
    list_bad(settings, collected.bad, sum(collected.counts.values()) + len(collected.bad))
    source = f"{len(shards):,} shards"
    refuse_empty(collected.counts, source)
    data = ShardData(data_path / SAMPLES, [str(shard.path.resolve()) for shard in shards], json.dumps(inputs["shards"]))
    report = shard_report(data, collected.bad, kind, settings)
    notes = [*collected.notes, *kind.notes(data, {})]
    manifest = {
        "image_dir": SAMPLES,
        "source": source,
        "inputs": inputs,
        "outputs": {},
        "shards": data.shards,
        "counts": collected.counts,
        "report": report,
        "notes": notes,
        **kind.listed(data),
    }
    write_atomically(data_path / "dataset.json", json.dumps(manifest, ensure_ascii=False, indent=2))
    print(format_report(report, source, notes, kind, data_path))
    return data


def check_images(image_dir: Path, names: list[str], max_megapixels: float) -> tuple[dict[str, str], dict[str, str]]:
    """Open every picture whole -> {name: hash of the file} of the good, {name: reason} of the bad."""
    budget = PixelBudget(2 * LARGE)

    def check(name: str) -> tuple[str, str]:
        path = image_dir / name
        try:
            with budget.of(pixels_of_file(path)):
                load_image(path, max_megapixels)
            return file_hash(path), ""
        except (ImageError, OSError) as error:
            return "", str(error)

    good, bad = {}, {}
    with ThreadPoolExecutor() as pool:
        bar = progress_bar(pool.map(check, names), total=len(names), desc="checking", unit=" pictures")
        for name, (digest, reason) in zip(names, bar):
            if digest:
                good[name] = digest
            else:
                bad[name] = reason
    return good, bad


def list_bad(settings: Settings, bad: dict[str, str], num_images: int) -> None:
    """Into bad_images.txt. Raises UserError where they are too many."""
    listed = [f"{shown(name)}\t{shown(reason)}\n" for name, reason in bad.items()]
    write_atomically(settings.data_path / "bad_images.txt", "".join(listed))
    share = len(bad) / max(num_images, 1)
    if share > settings.BAD_IMAGE_LIMIT:
        raise UserError(
            f"{len(bad):,} of {num_images:,} images ({share:.1%}) are missing or unreadable, BAD_IMAGE_LIMIT "
            f"is {settings.BAD_IMAGE_LIMIT:.1%}; they are listed in {settings.data_path / 'bad_images.txt'}"
        )


def leave_out_bad(raw: RawCaptions, splits: dict[str, list[str]], good: dict[str, str]) -> PreparedData:
    """The captions and splits of the good pictures alone; a note says how many of these stand in no split."""
    captions = {name: texts for name, texts in raw.captions.items() if name in good}
    splits = {split: [name for name in names if name in good] for split, names in splits.items()}
    if unsplit := len(captions) - sum(map(len, splits.values())):
        raw.notes.append(f"{unsplit:,} pictures with captions stand in no official split and are not used")
    return PreparedData(captions, splits, raw.image_dir)
