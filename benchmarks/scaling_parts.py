"""What scaling.py measures, each part in a process of its own, so that its memory is its own too.

    python -m benchmarks.scaling_parts prepare '{"folder": "FOLDER"}'      # -> one line of JSON, its peak among it

write puts a raw dataset into the folder, the others work on it. Each imports what it needs before its time counts.
"""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from basics.errors import UserError, run_script
from basics.memory import own_memory
from basics.settings import Settings, load_settings
from training.tracking import Tracker

TRAINING = {  # as in presets/flickr8k.yaml, but of width 256; the encoder does not run, it is there for its sizes
    "ENCODER_MODEL_NAME": "scratch",
    "SCRATCH_IMAGE_SIZE": 112,
    "SCRATCH_EMBED_DIM": 384,
    "SCRATCH_LAYERS": 1,
    "GROUP_CAPTIONS": True,
    "BATCH_SIZE": 160,
    "DECODER_EMBED_DIM": 256,
    "DECODER_HEADS": 8,
    "DECODER_LAYERS": 3,
    "DECODER_FF_DIM": 1024,
    "DECODER_DROPOUT": 0.2,
    "PRECISION": "bf16",
    "DEVICE": "cpu",
    "CHECKPOINT_EVERY_STEPS": None,
}
BLOCK = 500  # pictures whose features are written at once


def write(folder: Path, raw_dir: str, times: int = 1, captions: int | None = None) -> dict:
    from benchmarks.raw_data import pictures_of, write_raw
    from sources.reading import read_captions

    source = read_captions(Path(raw_dir).expanduser(), folder / "source")
    write_raw(source, folder / "raw", times * len(pictures_of(source)), captions)
    return {}


def prepare_data(folder: Path) -> dict:
    from sources.captions import Captions
    from sources.prepare import prepare
    from tokenizer import build_tokenizer

    started = time.perf_counter()
    settings = settings_of(folder)
    data = prepare(settings, Captions(lambda captions: build_tokenizer(settings, captions)))
    seconds = time.perf_counter() - started
    counts = {"pictures": len(data.captions), "captions": sum(map(len, data.captions.values()))}
    return counts | {"prepare_seconds": seconds}


def tokenizer(folder: Path) -> dict:
    from sources.reading import read_captions
    from tokenizer import train_tokenizer

    settings = settings_of(folder)
    captions = [text for texts in read_captions(folder / "raw", folder).captions.values() for text in texts]
    started = time.perf_counter()
    train_tokenizer(captions, settings.VOCAB_SIZE, settings.MIN_FREQUENCY, settings.LOWERCASE)
    return {"tokenizer_seconds": time.perf_counter() - started, "captions": len(captions)}


def train(folder: Path, steps: int) -> dict:
    """Set up as train.py does, then the last steps of an epoch."""
    from basics.devices import pick_device, pick_precision
    from captioner.folder import Captioner
    from dataset import PairLoader, SplitPictures
    from losses.cross_entropy import CaptionLoss
    from sources.captions import Captions
    from sources.prepare import prepare
    from sources.texts_on_disk import texts_on_disk
    from tasks.captioning import Captioning, build_model
    from tasks.criteria import Ingredients
    from tokenizer import build_tokenizer
    from train import train_one_epoch
    from training.processes import OneProcess
    from training.run import start_run
    from training.stopping import StopSignal
    from training.token_cache import cached_pairs

    started, settings = time.perf_counter(), settings_of(folder)
    device = pick_device(settings.DEVICE)
    data = texts_on_disk(
        prepare(settings, Captions(lambda captions: build_tokenizer(settings, captions))), settings.data_path
    )
    vocabulary = build_tokenizer(settings, data.captions_of("train"))
    model, image_processor = build_model(settings, vocabulary, None, None, device)
    pictures = SplitPictures(data, "train", image_processor, settings)
    written = time.perf_counter()
    features = write_features(folder / "features.bin", pictures, model)
    started += time.perf_counter() - written  # random features are no part of setting up
    dataset = cached_pairs(pictures, vocabulary, settings, OneProcess(), features=features)
    set_up = time.perf_counter() - started
    loader = PairLoader(dataset, settings, vocabulary.pad_id, shuffle=True)
    captioner = Captioner(model, vocabulary, image_processor, {})
    ingredients = Ingredients(settings, model, vocabulary, loader)
    dtype, alone = pick_precision(settings, device), OneProcess()
    task = Captioning(settings, device, dtype, captioner, ingredients, loader, {}, {}, alone)
    run = start_run(task, folder, alone)
    batches = -(-loader.num_examples // loader.batch_size)
    if steps > batches:
        raise UserError(f"the dataset makes an epoch of {batches} steps, --steps is {steps}")
    run.progress.batches_done = batches - steps
    watch = Watch()
    train_one_epoch(run, CaptionLoss(), watch, StopSignal(run.processes))
    return {"set_up_seconds": set_up, "step_ms": 1e3 * watch.step_seconds(), "train_own": watch.own}


def write_features(path: Path, pictures, model):
    """A cache of random features of all pictures."""
    import numpy as np

    from basics.cache_file import check_space
    from networks.encoder import token_shape
    from training.feature_cache import Features

    shape = (1, len(pictures), *token_shape(model.encoder, pictures.image_processor))
    check_space(path.parent, 2 * int(np.prod(shape)))
    block = np.random.default_rng(0).standard_normal((BLOCK, *shape[2:]), np.float32).astype(np.float16)
    with open(path, "wb") as file:
        for start in range(0, shape[1], BLOCK):
            file.write(block[: shape[1] - start].tobytes())
    return Features([path], shape, shape[1])


class Watch(Tracker):
    """Sees each step: when it ended, and how much memory is the process's own."""

    def __init__(self):
        self.times, self.own = [], 0.0

    def log_step(self, step: int, values: dict[str, float]) -> None:
        self.times.append(time.perf_counter())
        self.own = max(self.own, own_memory() / 2**20)

    def step_seconds(self) -> float:
        return statistics.median(b - a for a, b in zip(self.times, self.times[1:]))


PARTS = {"write": write, "prepare": prepare_data, "tokenizer": tokenizer, "train": train}


def settings_of(folder: Path) -> Settings:
    places = {"DATASET": "flickr8k", "RAW_DIR": folder / "raw", "DATA_DIR": folder / "data"}
    return load_settings([f"--{name}={value}" for name, value in {**TRAINING, **places}.items()])


def peak_memory() -> float:
    """MiB at the process's peak, mapped files included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def run_part(parts: dict[str, Callable[..., dict]], argv: list[str]) -> None:
    """One of the parts, named in argv with its values -> what it found and this process's peak, printed."""
    name, arguments = argv
    values = json.loads(arguments)
    result = parts[name](Path(values.pop("folder")), **values)
    print(json.dumps(result | {f"{name}_peak": peak_memory()}))


def main(argv: list[str]) -> None:
    run_part(PARTS, argv)


if __name__ == "__main__":
    run_script(main)
