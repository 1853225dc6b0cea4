"""A checkpoint may hold anything: one line that names it, or the run goes on; nothing half of it is trained on."""

import contextlib
import random
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from attack.child import in_child
from attack.mutate import mutate_bytes, mutate_value, places, with_value
from tiny import tiny_settings

from basics.checkpoint_file import read_checkpoint
from basics.errors import UserError
from captioner.folder import load_captioner
from tasks.captioning import build_captioning
from training.checkpoint import restore, save_checkpoint
from training.processes import OneProcess
from training.resume import find_resumed, settings_for_resume
from training.run import Run, start_run

SETTINGS = {"EMA_DECAY": 0.99}
RECORD = {"epoch": 1, "global_step": 1, "train_loss": 1.0, "val_loss": 1.0, "examples_per_second": 1.0}
BESIDE = ("vocab", "merges", "model_state_dict", "state", "values")  # their many items are alike
TENSOR = ("model_state_dict", "decoder.norm.weight")
MOMENT = ("optimizer_state_dict", "state", 3, "exp_avg")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Run, Path]:
    folder = tmp_path_factory.mktemp("run")
    with contextlib.chdir(folder):
        task = build_captioning(tiny_settings(**SETTINGS), None, OneProcess())
    run = start_run(task, folder / "run", OneProcess())
    for parameter in run.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    run.optimizer.step()
    run.scheduler.step()
    run.progress.count(1.0, 1, 1)
    run.progress.end_epoch(dict(RECORD))
    return run, save_checkpoint(run)


@pytest.fixture
def whole(made) -> dict:
    return torch.load(made[1], weights_only=True)


@pytest.fixture
def path(made, tmp_path) -> Path:
    return Path(shutil.copy(made[1], tmp_path))


def go_on(run: Run, path: Path) -> None:
    """All that train.py does with a checkpoint before it trains, and the next step."""
    settings = tiny_settings(**SETTINGS).replace(RESUME_CHECKPOINT_PATH=str(path))
    resumed = find_resumed(settings, OneProcess())
    settings_for_resume(settings, resumed)
    restore(run, resumed)
    run.optimizer.step()


def tried(work, path: Path) -> str | None:
    """None where it goes well; the line of a UserError, with what it came of."""
    try:
        work(path)
    except UserError as error:
        return f"{error} <- {type(error.__cause__).__name__}: {error.__cause__}"
    return None


def one_line(line: str | None) -> bool:
    return line is None or "\n" not in line.partition(" <- ")[0] and "alloc" not in line and "MemoryError" not in line


def some_places(whole: dict) -> list[tuple]:
    """All but the many alike, of which there are two."""
    counts: dict[tuple, int] = {}
    found = []
    for place in places(whole):
        for number, name in enumerate(place[:-1]):
            if name in BESIDE:
                beside = (*place[: number + 1], *place[number + 2 :])
                counts[beside] = counts.get(beside, 0) + 1
                if counts[beside] > 2:
                    break
        else:
            found.append(place)
    return found


def test_whatever_stands_at_any_place_is_one_line_or_goes_on(made, whole, path, tmp_path):
    rng, run = random.Random(0), made[0]

    def walk() -> dict[str, str | None]:
        found = {}
        for place in rng.sample(some_places(whole), 60):
            mutant = mutate_value(rng, whole, place)[1]
            with contextlib.suppress(UnicodeEncodeError):  # a lone surrogate cannot be written
                torch.save(mutant, path)
                work = load_captioner if rng.random() < 0.3 else lambda path: go_on(run, path)
                found[str(place)] = tried(work, path)
        return found

    found, grown = in_child(walk, tmp_path / "answer")
    assert {place: line for place, line in found.items() if not one_line(line)} == {} and grown < 300
    assert sum(line is not None for line in found.values()) > len(found) / 2


@pytest.mark.parametrize(
    "place, tensor",
    [
        (TENSOR, torch.full((16,), float("nan"))),
        (TENSOR, torch.zeros(1).expand(10**9)),
        (TENSOR, torch.zeros(1).expand(16)),
        (TENSOR, torch.zeros(16, device="meta")),
        (TENSOR, torch.zeros(17)),
        (MOMENT, torch.zeros(1).expand(16)),
        (MOMENT, torch.zeros(10**4)),
        (("optimizer_state_dict", "state", 3, "step"), torch.zeros(10**4)),
        (("average", "values", "decoder.norm.weight"), torch.zeros(17)),
        (("rng", "numpy", 2), 10**6),  # where numpy would read past its state
        (("rng", "torch"), torch.zeros(3, dtype=torch.uint8)),
    ],
)
def test_tensors_that_are_not_what_they_say_are_refused(made, whole, path, tmp_path, place, tensor):
    torch.save(with_value(whole, place, tensor), path)
    line, grown = in_child(lambda: tried(lambda path: go_on(made[0], path), path), tmp_path / "answer")
    assert line is not None and str(path) in line and one_line(line) and grown < 300


@pytest.mark.parametrize("name, value", [("DECODER_LAYERS", 10**5), ("SCRATCH_EMBED_DIM", 40_000)])
def test_sizes_that_its_weights_do_not_have_are_refused_before_a_model_is_built(whole, path, name, value):
    torch.save(with_value(whole, ("config", name), value), path)
    with pytest.raises(UserError, match=path.name):
        find_resumed(tiny_settings().replace(RESUME_CHECKPOINT_PATH=str(path)), OneProcess())


def test_a_lie_that_is_told_twice_is_compared_with_the_weights(whole, path):
    lie = with_value(
        with_value(whole, ("config", "DECODER_FF_DIM"), 200_000), ("architecture", "decoder_ff_dim"), 200_000
    )
    torch.save(lie, path)
    for work in (
        load_captioner,
        lambda path: find_resumed(tiny_settings().replace(RESUME_CHECKPOINT_PATH=str(path)), OneProcess()),
    ):
        with pytest.raises(UserError, match=r"feed_forward.* is described as \[200000"):
            work(path)


def test_changed_bytes_are_one_line_or_change_nothing(made, path):
    rng, content, expected = random.Random(0), path.read_bytes(), made[0].model.state_dict()
    for _ in range(60):
        how, mutant = mutate_bytes(rng, content)
        path.write_bytes(mutant)
        try:
            found = read_checkpoint(path)["model_state_dict"]
            assert all(torch.equal(found[name], expected[name]) for name in expected), how
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)


def test_each_byte_of_the_weights_is_checked(made, path):
    content, weight = path.read_bytes(), made[0].model.decoder.token_embedding.weight.detach()
    place = content.index(weight.numpy().tobytes()) + 5
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(UserError, match="checksum"):
        read_checkpoint(path)


def test_a_file_that_would_unpack_to_more_than_it_is_is_refused(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    with pytest.raises(UserError, match="compressed"):
        read_checkpoint(path)


def test_a_checkpoint_of_no_captioner_is_one_line(whole, path):
    torch.save({name: value for name, value in whole.items() if name != "encoder_files"}, path)
    with pytest.raises(UserError, match="of no captioner"):
        load_captioner(path)
