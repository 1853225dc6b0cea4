"""Whatever fails on the disk while something is saved: one line says why, and the state before or after is whole."""

import errno
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from faults import Faults
from in_process import train
from own_folder import make_own_folder
from tiny import same_weights, tiny_settings

from basics.cache_file import CacheFile
from basics.checkpoint_file import STEP_FILE, numbered
from basics.errors import message
from captioner import folder as captioner_folder
from captioner.folder import load_captioner, save_captioner
from captioner.output import output_form, write_answers
from captioner.picture_files import Found
from networks.caption import Caption
from sources.captions import Captions
from sources.prepare import prepare, preparing
from tokenizer import build_tokenizer
from training import checkpoint

ERRORS = (errno.ENOSPC, errno.EIO)


def every_fault(under, before, save, check, at_least, also=()):
    """Call save() with each of its steps failing in turn, by each error; before() makes the state that it changes.

    check(failed) looks at what is left; at_least so many steps were really in its way.
    """
    for error in ERRORS:
        number, happened = 0, True
        while happened:
            number, failed = number + 1, False
            before()
            with Faults(number, error, under, also) as faults:
                try:
                    save()
                except Exception as problem:
                    failed = True
                    text = message(problem)
                    assert faults.happened and text and "\n" not in text, (number, repr(problem))
            happened = faults.happened
            check(failed)
        assert number > at_least


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    assert train(folder, RUN_NAME="a", NUM_EPOCHS=1).returncode == 0
    return load_captioner(folder / "checkpoints/a/best")


def test_a_captioners_folder_is_the_old_or_the_new_one(captioner, tmp_path):
    best = tmp_path / "best"

    def before():
        save_captioner(captioner, best, 1, {"README.md": "old"})

    def check(failed):
        loaded = load_captioner(best)
        assert same_weights(loaded.model.state_dict(), captioner.model.state_dict())
        texts = {1: "old", 2: "new"}
        assert (best / "README.md").read_text() == texts[loaded.config["epoch"]]
        assert failed or loaded.config["epoch"] == 2
        assert [path.name for path in tmp_path.iterdir()] == ["best"]

    def save():
        save_captioner(captioner, best, 2, {"README.md": "new"})

    every_fault(tmp_path, before, save, check, at_least=15, also=[(captioner_folder, "save_file")])


def test_the_newest_checkpoint_is_whole(tmp_path, monkeypatch):
    run = SimpleNamespace(
        folder=tmp_path / "run",
        settings=SimpleNamespace(KEEP_LAST_N=1, EMA_DECAY=None),
        processes=SimpleNamespace(is_main=True),
        progress=SimpleNamespace(global_step=1),
        model=torch.nn.Linear(2, 2),
    )
    state = dict.fromkeys(checkpoint.CONTENT, 0) if hasattr(checkpoint, "CONTENT") else {}
    monkeypatch.setattr(checkpoint, "make_checkpoint", lambda _: {**state, "step": torch.tensor(step)})
    step = 0

    def save_step(number):
        nonlocal step
        step = run.progress.global_step = number
        checkpoint.save_checkpoint(run)

    def before():
        shutil.rmtree(run.folder, ignore_errors=True)
        save_step(1)

    def check(failed):
        newest = numbered(run.folder, STEP_FILE)[-1]
        assert torch.load(newest, weights_only=True)["step"] == int(newest.stem[-8:])
        assert failed or newest.stem.endswith("2")
        assert all(path.suffix == ".pt" for path in run.folder.iterdir())

    every_fault(tmp_path, before, lambda: save_step(2), check, at_least=5)


def test_a_cache_is_made_again_as_it_would_have_been(tmp_path):
    folder, content = tmp_path / "cache", [bytes([i]) * 50 for i in range(4)]

    def make():
        cache = CacheFile(folder / "train", {"inputs": 1})
        cache.make(4, 200, lambda done: ((1, piece) for piece in content[done:]), "encoding")
        return cache.path.read_bytes()

    def before():
        shutil.rmtree(folder, ignore_errors=True)

    every_fault(tmp_path, before, make, lambda failed: make() == b"".join(content) or pytest.fail("other"), at_least=8)


def test_data_are_prepared_as_if_nothing_had_happened(tmp_path, capsys):
    raw, data = make_own_folder(tmp_path / "raw"), tmp_path / "data"
    settings = tiny_settings(DATASET="folder", RAW_DIR=str(raw), DATA_DIR=str(data))

    def make():
        with preparing(settings):
            choose = lambda captions: build_tokenizer(settings, captions)  # noqa: E731
            choose(prepare(settings, Captions(choose)).captions_of("train"))

    def contents():
        return {path.relative_to(data): path.read_bytes() for path in data.rglob("*") if path.is_file()}

    def before():
        shutil.rmtree(data, ignore_errors=True)

    def check(failed):
        make()
        assert contents() == whole

    make()
    whole = contents()
    every_fault(tmp_path, before, make, check, at_least=20)


def test_an_older_file_of_captions_stays_or_the_new_one_is_whole(tmp_path):
    output = tmp_path / "captions.json"
    rows = [Found(tmp_path / f"{i}.png", [("a dog", Caption([5], -0.5, True))]) for i in range(3)]

    def check(failed):
        there = json.loads(output.read_text())
        assert [row["captions"] for row in there] == [["a dog"]] * (len(there) if failed else 3) and there
        assert [path.name for path in tmp_path.iterdir()] == ["captions.json"]

    def write(count):
        write_answers(rows[:count], output_form(None, str(output), alone=False, overwrite=True), str(output), count)

    every_fault(tmp_path, lambda: write(1), lambda: write(3), check, at_least=5)
