"""inference.py as a user runs it, on a folder a run has left."""

import csv
import importlib
import json
import re
import shutil
import sys

import pytest
import torch
from hub_stub import HubStub
from in_process import call, train
from PIL import Image
from tiny import ROOT, run

import inference
from basics.devices import autocast
from basics.settings import constants
from basics.timing import run_python
from captioner import ensemble, picture_files, places
from captioner.folder import load_captioner
from model import ImageToTextModel
from networks.decoding_options import DecodingOptions
from sources.images import load_image


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """checkpoints/a/best of a tiny run and three pictures; the tests only read it."""
    folder = tmp_path_factory.mktemp("trained")
    assert train(folder, RUN_NAME="a").returncode == 0
    for name, color in (("one.png", "red"), ("two.jpg", "blue"), ("three.webp", "green")):
        (folder / "photos").mkdir(exist_ok=True)
        Image.new("RGB", (50, 40), color).save(folder / "photos" / name)
    return folder


def infer(folder, *arguments):
    return call(inference.main, *arguments, cwd=folder)


def test_one_picture_prints_just_the_caption_of_the_newest_best(trained):
    result = run("inference.py", "photos/one.png", cwd=trained)  # a process: libraries have nothing to say either
    captioner = load_captioner(trained / "checkpoints/a/best")
    [[(caption, _)]] = captioner.caption([load_image(trained / "photos/one.png")], DecodingOptions())
    assert (result.returncode, result.stdout, result.stderr) == (0, caption + "\n", "")


def test_folders_and_patterns_name_each_picture_once(trained):
    result = infer(trained, "photos", "photos/*.png", "photos/two.jpg", "--batch-size", 2)
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == [
        "photos/one.png",
        "photos/three.webp",
        "photos/two.jpg",
    ]


def test_a_bad_file_is_named_on_stderr_and_the_rest_go_on(trained, tmp_path):
    shutil.copytree(trained / "photos", tmp_path / "photos")
    (tmp_path / "photos/broken.jpg").write_bytes(b"no picture")
    best = trained / "checkpoints/a/best"
    result = infer(tmp_path, "photos", "gone.jpg", "--checkpoint", best)
    assert result.returncode == 1 and len(result.stdout.splitlines()) == 3
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 2 and "broken.jpg" in lines[0] and "gone.jpg" in lines[1] and "Traceback" not in result.stderr


def test_stats_go_to_stderr_with_the_time_to_the_first_caption_and_the_speed(trained):
    plain, stats = (infer(trained, "data/shapes/images", "--batch-size", 16, *flag) for flag in ([], ["--stats"]))
    assert stats.stdout == plain.stdout and not plain.stderr
    assert re.search(r"first caption after [\d.]+ s, .* after the first batch [\d.]+ pictures/s; 40 pic", stats.stderr)


def test_json_and_csv_hold_every_caption_and_score(trained, tmp_path):
    many = ["photos", "--beam", 3, "--num-captions", 2]
    rows = json.loads(infer(trained, *many, "--format", "json").stdout)
    assert [len(row["captions"]) == len(row["scores"]) == 2 for row in rows] == [True] * 3
    result = infer(trained, *many, "--format", "csv", "--output", tmp_path / "out.csv")
    table = list(csv.DictReader(open(tmp_path / "out.csv", newline="")))
    assert [(r["image"], r["caption"]) for r in table] == [(row["image"], c) for row in rows for c in row["captions"]]
    assert result.stdout == "" and "3 of 3 pictures captioned" in result.stderr


def test_folder_checkpoint_and_hub_give_the_same_caption(trained, tmp_path):
    run_folder = trained / "checkpoints/a"
    best_file = max(run_folder.glob("checkpoint_epoch_*.pt"), key=lambda p: int(p.name.split("_")[2]))
    with HubStub() as hub:
        files = {
            str(p.relative_to(run_folder / "best")): p.read_bytes()
            for p in (run_folder / "best").rglob("*")
            if p.is_file()
        }
        hub.add("me/captioner", {**files, "extra.bin": b"a pickle that is none of our business"})
        online = {**hub.client_env(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
        far = run("inference.py", "photos/one.png", "--checkpoint", "me/captioner", cwd=trained, **online)
        assert not any("extra.bin" in request for request in hub.requests)
    near = [infer(trained, "photos/one.png", "--checkpoint", c) for c in ("checkpoints/a/best", best_file)]
    assert far.stdout.strip() and near[0].stdout == near[1].stdout == far.stdout


def test_from_pretrained_brings_the_trained_weights(trained):
    run_folder = trained / "checkpoints/a"
    model = ImageToTextModel.from_pretrained(str(run_folder / "best"))
    newest = torch.load(sorted(run_folder.glob("checkpoint_step_*.pt"))[-1], weights_only=True)["model_state_dict"]
    assert not model.training and all(torch.equal(t, newest[name]) for name, t in model.state_dict().items())


def test_sampling_repeats_with_a_seed(trained):
    sampled = [
        infer(trained, "photos/one.png", "--temperature", 1, "--num-captions", 3, "--seed", s).stdout for s in (1, 1, 2)
    ]
    assert sampled[0] == sampled[1] != sampled[2] and len(sampled[0].splitlines()) == 3


@pytest.fixture(scope="module")
def beams(trained, tmp_path_factory):
    """The captioner with settings that search, score and compute otherwise than config.py."""
    best = shutil.copytree(trained / "checkpoints/a/best", tmp_path_factory.mktemp("beams") / "best")
    config = json.loads((best / "config.json").read_text())
    config["settings"] |= {"BEAM_SIZE": 3, "LENGTH_PENALTY": 0.25, "PRECISION": "bf16"}
    (best / "config.json").write_text(json.dumps(config))
    (best / "checksums.json").unlink()
    return best


@pytest.mark.parametrize(
    "flags, options, precision",
    [
        ([], {"beam_size": 3, "length_penalty": 0.25}, torch.bfloat16),
        (["--beam", 2, "--precision", "fp32"], {"beam_size": 2, "length_penalty": 0.25}, torch.float32),
        (
            ["--num-captions", 4, "--length-penalty", 1],
            {"beam_size": 4, "num_captions": 4, "length_penalty": 1.0},
            torch.bfloat16,
        ),
        (["--temperature", 1, "--seed", 3], {"temperature": 1.0, "seed": 3}, torch.bfloat16),
    ],
)
def test_what_no_flag_says_is_as_the_captioners_own_settings(trained, beams, flags, options, precision):
    found = infer(trained, "photos/one.png", "--checkpoint", beams, "--format", "json", *flags)
    captioner, image = load_captioner(beams), load_image(trained / "photos/one.png")
    captioner.make_fast(precision)
    with autocast(captioner.device, precision):
        [rows] = captioner.caption_images([image], DecodingOptions(**{"length_penalty": 0.25, **options}))
    [row] = json.loads(found.stdout)
    assert row["captions"] == [text for text, _ in rows]
    assert row["scores"] == [round(caption.score, 4) for _, caption in rows]


def test_python_captions_from_any_folder_as_the_command_does(trained, beams, tmp_path):
    code = f"""
from captioner.folder import load_captioner
captioner = load_captioner({str(beams)!r})
for text, caption in captioner.caption({str(trained / "photos/one.png")!r}):
    print(text)
"""
    found = run_python("a script", "-c", code, cwd=tmp_path, module_path=ROOT)
    assert found.stdout == infer(trained, "photos/one.png", "--checkpoint", beams).stdout


def test_the_model_card_names_what_loads_it(trained):
    card = (trained / "checkpoints/a/best/README.md").read_text()
    module, name = re.search(r"`([\w.]+)\.(\w+)\(PATH_OR_ID\)`", card).groups()
    assert getattr(importlib.import_module(module), name) is load_captioner


def test_ctrl_c_keeps_the_captions_that_are_there(trained, tmp_path, monkeypatch):
    def load_two(path):
        if path.name == "two.jpg":
            raise KeyboardInterrupt
        return load_image(path)

    monkeypatch.setattr(picture_files, "load_image", load_two)
    result = infer(trained, "photos", "--batch-size", 1, "--output", tmp_path / "out.json")
    assert [row["image"] for row in json.loads((tmp_path / "out.json").read_text())] == [
        "photos/one.png",
        "photos/three.webp",
    ]
    assert result.returncode == 130 and f"2 of 3 pictures captioned: {tmp_path / 'out.json'}\n" in result.stderr


def test_a_terminal_is_told_which_captioner_speaks(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert inference.say_newest(constants()) == "checkpoints/a/best"
    assert capsys.readouterr() == ("", "captioner    checkpoints/a/best\n")


def test_a_reader_that_has_gone_ends_it_quietly(trained, monkeypatch):
    def closed(*_, **__):
        raise BrokenPipeError

    monkeypatch.setattr(inference, "say_beside_bar", closed)
    result = infer(trained, "photos")
    assert (result.returncode, result.stderr) == (141, "")


def test_another_vocabulary_is_refused_with_both_hashes(trained, tmp_path):
    shutil.copytree(trained / "checkpoints/a/best", tmp_path / "best")
    vocab = json.loads((tmp_path / "best/vocab.json").read_text())
    a, b = [token for token in vocab if vocab[token] in (298, 299)]
    vocab[a], vocab[b] = vocab[b], vocab[a]
    (tmp_path / "best/vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "best/checksums.json").unlink()  # as in folders from before there were any
    result = infer(trained, "photos/one.png", "--checkpoint", tmp_path / "best")
    assert result.returncode == 1 and result.stderr.count("hash") == 2


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["gone.jpg"], "there is no such file"),
        (["photos/one.png", "--checkpoint", "nowhere/at/all"], "nowhere/at/all"),
        (["photos/one.png", "--checkpoint", "photos"], "no captioner"),
        (["photos/one.png", "--checkpoint", "photos/one.png"], "expected a checkpoint"),
        (["photos/one.png", "--beam", "2", "--num-captions", "3"], "beam"),
        (["photos/one.png", "--output", "captions.xml"], "--format"),
        (["photos/one.png", "--device", "cuda:9"], "this machine has"),
        (["empty"], "no pictures"),
        (["*.nothing"], "no file matches"),
    ],
)
def test_what_a_user_can_get_wrong_is_one_line_without_a_traceback(trained, arguments, part):
    (trained / "empty").mkdir(exist_ok=True)
    result = infer(trained, *arguments)
    assert result.returncode == 1 and part in result.stderr and result.stderr.count("\n") == 1


def test_a_repository_that_cannot_be_had_is_one_line(trained):
    result = infer(trained, "photos/one.png", "--checkpoint", "me/none-such")
    assert result.returncode == 1 and "me/none-such" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--beam", "0"],
        ["--length-penalty", "-1"],
        ["--length-penalty", "nan"],
        ["--beam", "2", "--num-captions", "3"],
        ["--output", "captions.xml"],
        ["--output", "photos", "--format", "json"],
        ["--temperature", "-1"],
        ["--temperature", "1", "--beam", "2"],
        ["--top-k", "-1"],
        ["--top-p", "0"],
        ["--batch-size", "0"],
        ["--device", "banana"],
        ["--checkpoint", "checkpoints/a/best,nowhere"],
    ],
    ids=" ".join,
)
def test_what_can_be_refused_without_the_weights_is(trained, monkeypatch, arguments):
    monkeypatch.setattr(ensemble, "load_captioners", lambda *_: pytest.fail("the weights were loaded"))
    result = infer(trained, "photos/one.png", *arguments)
    assert result.returncode == 1 and result.stderr.count("\n") == 1


def test_flags_are_checked_before_torch_is_imported():
    code = "import sys, inference, evaluate, compare; assert 'torch' not in sys.modules"
    assert run_python("imports", "-c", code, module_path=ROOT).returncode == 0


def test_without_a_trained_captioner_it_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "ROOT", tmp_path / "project")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert "python train.py" in infer(tmp_path, "a.png").stderr


def test_debug_shows_the_traceback(trained):
    assert "Traceback" in infer(trained, "photos/one.png", "--checkpoint", "photos", "--debug").stderr


@pytest.mark.parametrize("damage", ["weights cut", "weights of another shape", "config"])
def test_a_damaged_folder_is_one_clear_error(trained, tmp_path, damage):
    best = shutil.copytree(trained / "checkpoints/a/best", tmp_path / "best")
    if damage == "weights cut":
        (best / "model.safetensors").write_bytes((best / "model.safetensors").read_bytes()[:1000])
    else:
        config = json.loads((best / "config.json").read_text())
        config["architecture"]["decoder_embed_dim"] = 32
        (best / "config.json").write_text("{" if damage == "config" else json.dumps(config))
    result = infer(trained, "photos/one.png", "--checkpoint", best)
    assert result.returncode == 1 and "damaged" in result.stderr and "Traceback" not in result.stderr
