"""What scale_out.py measures of data, each part in a process of its own.

python -m benchmarks.scale_out_parts read '{"folder": "FOLDER", "flags": ["--dataset=webdataset", ...]}'
"""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

from basics.errors import run_script
from basics.settings import Settings, load_settings
from benchmarks.scaling_parts import own_memory, run_part

DECODED = 2_000  # pictures of an epoch's order


def write(folder: Path, raw_dir: str, pictures: int) -> dict:
    from benchmarks.raw_data import pictures_of, write_raw
    from sources.reading import read_captions

    source = read_captions(Path(raw_dir), folder / "source")
    write_raw(source, folder / "raw", min(pictures, len(pictures_of(source))))
    return {}


def prepare_data(folder: Path, flags: list[str]) -> dict:
    settings = load_settings(flags)
    captions = len(prepared(settings).captions_of("train"))
    return {"steps": math.ceil(captions / settings.BATCH_SIZE)}


def write_shards(folder: Path, flags: list[str], count: int) -> dict:
    """So many of the training pictures, or a few less where these do not divide well."""
    from sources.shards.write import ShardLimits
    from sources.shards.write import write_shards as write

    data = prepared(load_settings(flags))
    pictures = len(data.split("train"))
    shards = write(data, folder, ShardLimits(sys.maxsize, math.ceil(pictures / count)))
    return {"shards": sum(shard["name"].startswith("train-") for shard in shards)}


def read(folder: Path, flags: list[str]) -> dict:
    """Batches of an epoch after its first, as training asks for them, then pictures alone."""
    import torch

    from dataset import ImageTextDataset, PairLoader, SplitPictures
    from networks.encoders import load_encoder
    from tokenizer import build_tokenizer

    torch.set_num_threads(1)
    settings = load_settings(flags)
    data = prepared(settings)
    tokenizer = build_tokenizer(settings, data.captions_of("train"))
    pictures = SplitPictures(data, "train", load_encoder(settings)[1], settings)
    loader = PairLoader(ImageTextDataset(pictures, tokenizer, settings), settings, tokenizer.pad_id, shuffle=True)
    middle = len(loader.sampler) // 2
    found = {
        "first": seconds(lambda: next(loader.batches(epoch=1))),
        "middle": seconds(lambda: next(loader.batches(epoch=2, start=middle))),
        "own": own_memory(),
    }
    numbers = loader.dataset.image_numbers[loader.sampler.order()]
    different = list(dict.fromkeys(numbers.tolist()))[:DECODED]
    taken = seconds(lambda: [pictures.image(number, 0) for number in different])
    return {**found, "decoded": len(different) / taken}


def prepared(settings: Settings):
    """The data as train.py prepares it, with what it prints on stderr: stdout is for the result."""
    from benchmarks.side_by_side import set_up
    from sources.captions import Captions
    from sources.prepare import prepare
    from tokenizer import build_tokenizer

    with set_up():
        return prepare(settings, Captions(lambda captions: build_tokenizer(settings, captions)))


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


PARTS = {"write": write, "prepare": prepare_data, "write_shards": write_shards, "read": read}


if __name__ == "__main__":
    run_script(lambda argv: run_part(PARTS, argv))
