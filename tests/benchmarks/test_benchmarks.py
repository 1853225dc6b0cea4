"""The benchmarks run from end to end on drawn pictures and tiny models; what they measure here means nothing."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from forks import Forks
from in_process import call, in_folder
from tiny import TINY, flags, save_tiny_vit, tiny_model, tiny_settings, tiny_tokenizer
from transformers import ViTImageProcessor

from basics.errors import UserError
from basics.timing import in_turn, number, run_python
from benchmarks import (
    captioning,
    distillation,
    git_teacher,
    launching,
    scale_out,
    scale_out_parts,
    scaling,
    scaling_parts,
    startup,
    training,
)
from benchmarks.raw_data import write_raw
from benchmarks.side_by_side import Row, table
from captioner.folder import Captioner, captioner_config, save_captioner
from scoring import costs
from sources.raw_captions import RawCaptions
from sources.reading import read_captions
from sources.shapes import draw_shapes

SIZES = ["--width", "16", "--layers", "1", "--heads", "2"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    return RawCaptions("drawn", draw_shapes(folder, 80, seed=42), image_dir=folder)


@pytest.fixture(scope="module")
def raw(source, tmp_path_factory):
    """80 pictures in Flickr8k's form; the tests only read it."""
    folder = tmp_path_factory.mktemp("raw")
    write_raw(source, folder, 80)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(save_tiny_vit(tmp_path_factory.mktemp("encoder")))


@pytest.fixture(autouse=True)
def small_products():
    """Measuring the machine's matrix products takes seconds otherwise."""
    with in_folder(Path.cwd()):
        yield


def rows_of(path):
    return json.loads(path.read_text())["rows"]


@pytest.mark.parametrize("script", [training, captioning, startup, scaling, scale_out, distillation, git_teacher])
def test_each_script_has_a_help_page(script, capsys):
    with pytest.raises(SystemExit) as stop:
        script.main(["--help"])
    assert stop.value.code == 0 and "python -m benchmarks." in capsys.readouterr().out


def test_sides_take_turns_and_the_first_round_does_not_count():
    calls = []
    seconds = in_turn({name: lambda name=name: calls.append(name) for name in "ab"}, repeats=2)
    assert "".join(calls) == "ababab" and {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_a_row_is_the_median_its_spread_and_the_ratio_of_each_repeat():
    row = Row("greedy", "images/s", ours=[2.0, 6.0, 8.0], peer=[1.0, 2.0, 2.0])
    assert row.ratio == [2, 3, 4]
    cells = [cell.strip() for cell in table([row]).splitlines()[2].strip("|").split("|")]
    assert cells[2:] == ["6.00 (2.00 to 8.00)", "2.00 (1.00 to 2.00)", "3.00 (2.00 to 4.00)"]
    assert [number(value) for value in (0, 0.01234, 12.34, 1234.5)] == ["0", "0.0123", "12.3", "1,234"]


def test_five_epochs_count_the_building_of_the_cache_once():
    [speed] = training.five_epochs(captions=100, speeds=[50.0], build_seconds=10.0)
    assert speed == 5 * 100 / (10 + 5 * 2)


def test_repetition_gives_as_many_pictures_and_captions_as_asked_for(source, tmp_path):
    write_raw(source, tmp_path / "pictures", 200)
    repeated = read_captions(tmp_path / "pictures", tmp_path)
    assert len(repeated.captions) == 200 and sum(map(len, repeated.captions.values())) == 1000
    of_name = {name: split for split, names in repeated.splits.items() for name in names}
    assert all(of_name[name] == of_name["000" + name[3:]] for name in repeated.captions)  # no copy leaks between splits
    first, copy = (repeated.captions[f"{times}_000000.png"][0] for times in ("000", "001"))
    assert first == source.captions["000000.png"][0] and sorted(copy.split()) == sorted(first.split())

    write_raw(source, tmp_path / "captions", 80, num_captions=900)
    repeated = read_captions(tmp_path / "captions", tmp_path)
    assert len(repeated.captions) == 80 and sum(map(len, repeated.captions.values())) == 900


def test_training_measures_every_side(raw, encoder, tmp_path, capsys):
    flags = ["--encoder", encoder, "--raw-dir", str(raw), *SIZES, "--pictures", "80", "--steps", "2", "--repeats", "1"]
    training.main([*flags, "--vocab-size", "300", "--profile", "--output", str(tmp_path / "training.json")])
    rows = rows_of(tmp_path / "training.json")
    assert [row["unit"] for row in rows] == ["captions/s"] * 4 + ["GFLOP/s"]
    assert all(value > 0 for row in rows for value in (*row["ours"], *row["peer"]))
    out = capsys.readouterr().out
    assert "72 pictures, 360 captions; vocabulary 300" in out and "aten::" in out


def test_training_says_when_an_epoch_is_too_short(raw, encoder):
    with pytest.raises(UserError, match="an epoch of 3 steps, --steps is 9"):
        training.main(["--encoder", encoder, "--raw-dir", str(raw), *SIZES, "--steps", "9", "--vocab-size", "300"])


def test_captioning_measures_every_piece_on_captions_of_one_length(source, encoder, tmp_path):
    flags = ["--encoder", encoder, "--pictures", str(source.image_dir), *SIZES, "--batch-size", "4", "--length", "6"]
    captioning.main([*flags, "--vocabulary", "300", "--repeats", "1", "--output", str(tmp_path / "captioning.json")])
    rows = rows_of(tmp_path / "captioning.json")
    assert len(rows) == 2 * 8 and {row["name"].split()[0] for row in rows} == {"fp32", "bf16"}
    assert all(value > 0 for row in rows for value in (*row["ours"], *row["peer"]))


def one_turn(sides, repeats):
    """in_turn() without the round that fills caches."""
    seconds = {}
    for name, work in sides.items():
        started = time.perf_counter()
        work()
        seconds[name] = [time.perf_counter() - started]
    return seconds


def test_startup_measures_one_caption_from_cold(source, tmp_path, monkeypatch):
    (model, image_processor), tokenizer, settings = tiny_model(), tiny_tokenizer(), tiny_settings()
    captioner = Captioner(
        model, tokenizer, image_processor, captioner_config(model, tokenizer, settings.to_dict(), epoch=1)
    )
    save_captioner(captioner, tmp_path / "best", epoch=1, extra_files={})
    picture = str(source.image_dir / "000000.png")
    flags = ["--checkpoint", str(tmp_path / "best"), "--picture", picture, "--repeats", "1"]
    monkeypatch.setattr(startup, "in_turn", one_turn)
    startup.main([*flags, "--output", str(tmp_path / "startup.json")])
    [row] = rows_of(tmp_path / "startup.json")
    assert row["unit"] == "s" and row["ratio"][0] > 0


def test_a_process_that_fails_is_named_by_its_last_words():
    with pytest.raises(UserError, match="^no picture$"):
        run_python("a process", "-c", "raise SystemExit('error: no picture')")


def test_imports_are_summed_up_by_package():
    lines = [
        "import time: self [us] | cumulative | imported package",
        "import time:   1500000 |    1500000 |   torch._C",
        "import time:    500000 |    2000000 | torch",
        "import time:    250000 |     250000 | numpy",
    ]
    assert startup.slowest_imports("\n".join(lines)).splitlines()[1:] == ["    2.00 s  torch", "    0.25 s  numpy"]


def test_scaling_measures_sizes_in_processes_of_their_own(raw, tmp_path, monkeypatch):
    asked, run_process = [], scaling.run_python

    def run(name, *command, cwd):
        """A process for training; the other parts here, each is asked for in the same way."""
        asked.append(name)
        assert command[:3] == ("-m", "benchmarks.scaling_parts", name)
        if name == "train":
            return run_process(name, *command, cwd=cwd)
        return call(scaling_parts.main, *command[2:], cwd=cwd)

    monkeypatch.setattr(scaling, "run_python", run)
    flags = ["--raw-dir", str(raw), "--times", "1", "--captions", "800", "--steps", "2", "--work-dir", str(tmp_path)]
    scaling.main([*flags, "--plot", str(tmp_path / "scaling.png"), "--output", str(tmp_path / "scaling.json")])
    assert asked == ["write", "prepare", "train", "write", "tokenizer", "prepare"]
    size, captions = rows_of(tmp_path / "scaling.json")
    assert (size["pictures"], size["captions"], captions["captions"]) == (80, 400, 800)
    assert min(size[key] for key in scaling.SIZES) > 0 and min(captions[key] for key in scaling.CAPTIONS) > 0
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(os.listdir(tmp_path)) == ["scaling.json", "scaling.png"]  # nothing temporary stays


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on Windows")
def test_scale_out_measures_processes_shards_and_resuming(raw, encoder, tmp_path, monkeypatch):
    """By forks in the place of torchrun, whose processes would import all that train.py does."""
    runs, before = tmp_path / "runs", []
    runs.mkdir()

    def start(count, arguments, printed):
        if arguments[0] != "train.py":
            with open(printed, "w") as file:
                return subprocess.Popen([sys.executable, "-c", f"print('imported\\n' * {count})"], stdout=file)
        for fork in before:
            fork.wait()
        before[:] = forks.start_several(count, arguments[1:], runs)
        printed.unlink(missing_ok=True)
        printed.symlink_to(before[0].out)
        return before[0]

    monkeypatch.setattr(launching, "start", start)
    monkeypatch.setattr(launching, "children", lambda pid: [pid])
    monkeypatch.setattr(launching, "SAMPLE", 0.02)
    monkeypatch.setattr(launching, "PAUSE", 0.001)
    monkeypatch.setattr(scaling, "run_python", lambda _name, *line, cwd: call(part_of(line[1]), *line[2:], cwd=cwd))
    work = ["--work-dir", str(runs), "--output", str(tmp_path / "out.json")]
    work += ["--repeats", "1", "--shards", "2", "--processes", "2"]
    small = {**TINY, "ENCODER_IMAGE_SIZE": 32, "DEVICE": "cpu"}
    small = {name: value for name, value in small.items() if not name.startswith("SHAPES")}
    with Forks() as forks:
        scale_out.main(["--raw-dir", str(raw), "--encoder", encoder, "--pictures", "40", *work, *flags(**small)])
    rows = rows_of(tmp_path / "out.json")
    assert [row.get("processes", row.get("shards")) for row in rows] == [2, 0, 2, 2]
    for row, columns in zip(rows, [scale_out.SPEED, scale_out.SHARDS, scale_out.SHARDS, scale_out.RESUMED]):
        assert row.keys() == columns.keys()
        assert all(value > 0 for name in columns.keys() - {"processes", "shards"} for value in row[name])
    assert rows[0]["ratio"] == [1]


def part_of(module):
    parts = {"benchmarks.scale_out_parts": scale_out_parts, "benchmarks.scaling_parts": scaling_parts}[module]
    return lambda argv: scaling_parts.run_part(parts.PARTS, argv)


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="no /proc")
def test_memory_of_processes_counts_what_they_share_once():
    waiting = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(2)]
    try:
        found = launching.children(os.getpid())
        assert {process.pid for process in waiting} <= set(found)
        resident, shared_once = launching.memory_of([process.pid for process in waiting])
    finally:
        for process in waiting:
            process.communicate(b"\n")
    assert resident > shared_once > 0
    assert launching.memory_of([waiting[0].pid]) is None and launching.memory_of([]) is None


def test_a_run_that_fails_is_named_by_its_error(tmp_path, monkeypatch):
    def start(count, arguments, printed):
        with open(printed, "w") as file:
            return subprocess.Popen([sys.executable, "-c", "print('error: no data'); exit('more')"], stdout=file)

    monkeypatch.setattr(launching, "start", start)
    with pytest.raises(UserError, match="^no data$"):
        launching.Launcher(tmp_path, []).train(1, "a")


def test_the_peer_learns_from_the_pairs_of_ours_alone(raw, encoder, tmp_path):
    arguments, flags = training.parse_arguments(["--encoder", encoder, "--raw-dir", str(raw), *SIZES])
    settings, data = training.prepare_pictures(arguments, tmp_path, [*flags, "--vocab-size=300"])
    tokenizer = training.build_tokenizer(settings, [])
    pictures = training.SplitPictures(data, "train", ViTImageProcessor.from_pretrained(encoder), settings)
    ours = training.ImageTextDataset(pictures, tokenizer, settings)
    rows = training.PeerRows(ours, encoder)
    assert len(rows) == len(ours)
    number = len(ours) // 2
    assert rows[number]["labels"].tolist() == ours[number]["tokens"][1:].tolist()
    assert torch.equal(rows[number]["pixel_values"], ours[number]["image"])


def test_kinds_of_distillation_stand_beside_the_student_alone(raw, encoder, git, tmp_path, monkeypatch, capsys):
    git = str(git)
    monkeypatch.chdir(tmp_path)
    small = {**TINY, "NUM_EPOCHS": 1, "DISTILL_TOP_K": 16, "ENCODER_IMAGE_SIZE": 32, "NUM_VALIDATION_CAPTIONS": 4}
    small = {name: value for name, value in small.items() if not name.startswith(("SHAPES", "SCRATCH"))}
    monkeypatch.setattr(costs, "peak_of_own_process", lambda *_: 1)
    arguments = [
        "--raw-dir",
        str(raw),
        "--encoder",
        encoder,
        "--teacher",
        git,
        "--seeds",
        "1",
        "--kinds",
        "alone",
        "logits",
        "--output",
        "out.json",
        "--flags",
        *flags(**small),
    ]
    distillation.main(arguments)
    rows = rows_of(tmp_path / "out.json")
    assert [row["kind"] for row in rows] == ["alone", "logits"] and all(row["seconds"] > 0 for row in rows)
    assert "parameters, million" in capsys.readouterr().out  # the teacher beside the student that learnt from it
    monkeypatch.setattr(distillation.train, "main", lambda _: pytest.fail("run again"))
    compared = []
    monkeypatch.setattr(distillation.evaluate, "main", compared.extend)
    distillation.main(arguments)
    table = capsys.readouterr().out
    assert "| alone " in table and "| logits" in table
    assert compared == ["--compare", git, "checkpoints/distillation/logits-1/best"]
