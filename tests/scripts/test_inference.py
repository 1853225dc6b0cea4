"""inference.py as a user runs it, on a folder a run has left."""

import csv
import json
import re
import shutil

import pytest
import torch
from hub_stub import HubStub
from in_process import call, train
from PIL import Image
from tiny import ROOT, run

import inference
from basics.timing import run_python
from captioner import ensemble
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


def test_another_vocabulary_is_refused_with_both_hashes(trained, tmp_path):
    shutil.copytree(trained / "checkpoints/a/best", tmp_path / "best")
    vocab = json.loads((tmp_path / "best/vocab.json").read_text())
    a, b = [token for token in vocab if vocab[token] in (298, 299)]
    vocab[a], vocab[b] = vocab[b], vocab[a]
    (tmp_path / "best/vocab.json").write_text(json.dumps(vocab))
    result = infer(trained, "photos/one.png", "--checkpoint", tmp_path / "best")
    assert result.returncode == 1 and result.stderr.count("hash") == 2


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["gone.jpg"], "there is no such file"),
        (["photos/one.png", "--checkpoint", "nowhere/at/all"], "nowhere/at/all"),
        (["photos/one.png", "--checkpoint", "photos"], "no captioner"),
        (["photos/one.png", "--checkpoint", "photos/one.png"], "expected a checkpoint"),
        (["photos/one.png", "--num-captions", "3"], "beam"),
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
        ["--num-captions", "3"],
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


def test_without_a_trained_captioner_it_says_what_to_run(tmp_path):
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
