"""evaluate.py --compare: both sides' captions, GIT's among them, paired differences, cost, JSON, and its errors."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
import torch
from git_folders import make_plain
from in_process import call
from test_evaluate import CAPTIONS, fit, write_flickr8k
from word_count import WordCount

import compare
import evaluate
from basics.errors import UserError
from captioner import picture_files
from captioner.any_captioner import load_any
from captioner.folder import load_captioner, save_captioner
from networks.decoding_options import DecodingOptions
from networks.git import git_logits
from scoring import costs, metrics, own_process
from scoring.bootstrap import bootstrap, difference_intervals, percentiles
from scoring.comparison import Outcome
from scoring.comparison_groups import short_names
from scoring.comparison_report import cost_cells
from scoring.metrics import score_captions
from sources import images
from sources.images import ImageError

NAMES = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """raw/ (pictures), good/best and same/best (captioners that tell all pictures apart, and none), git/ (a GIT)."""
    folder = tmp_path_factory.mktemp("compare")
    write_flickr8k(folder / "raw")
    fit(CAPTIONS, folder / "good" / "best", folder / "raw" / "Images")
    blind = load_captioner(folder / "good" / "best")
    for parameter in blind.model.projection.parameters():
        parameter.zero_()  # all pictures look alike
    (folder / "same").mkdir()
    save_captioner(blind, folder / "same" / "best", epoch=1, extra_files={})
    make_plain(folder / "git")
    return folder


@pytest.fixture
def quick(made, monkeypatch):
    """In the folder, without the processes that measure memory and with little to time: for evaluate.main()."""
    monkeypatch.chdir(made)
    monkeypatch.setattr(costs, "peak_of_own_process", lambda each, *_: len(each.name) * 10**6)
    monkeypatch.setattr(costs, "MIN_TIMED", 4)


@pytest.fixture(scope="module")
def git(made):
    """The GIT as a side, with a liking for [SEP]: some of its captions end."""
    side = load_any(str(made / "git"), torch.device("cpu"))
    side.model.output.bias[side.model.config.eos_token_id] = 3
    return side


def change_settings(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    config["settings"] |= {name: str(value) if hasattr(value, "parts") else value for name, value in values.items()}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "checksums.json").unlink()


def table(text: str, first: str) -> dict[str, list[str]]:
    """The lines of a printed table by their labels, cells split where two spaces or more are."""
    lines = text.split(f"\n{first} ")[1].split("\n\n")[0].splitlines()[1:]
    return {cells[0]: cells[1:] for cells in ([c.strip() for c in line.split("  ") if c.strip()] for line in lines)}


def test_both_sides_are_shown_with_scores_differences_and_cost(quick, tmp_path, capsys):
    flags = ["--split", "test", "--data-dir", "raw", "--beam", "2", "--num-samples", "2"]
    assert evaluate.main(["--compare", "same/best", "good/best", *flags, "--output", str(tmp_path / "both.json")]) == 0
    out, content = capsys.readouterr().out, json.loads((tmp_path / "both.json").read_text())
    first, scores = content["images"][0], table(out, "score")
    assert [content[side]["name"] for side in "AB"] == ["same", "good"]
    for side, name in (("A", "same"), ("B", "good")):
        value = f"{first[side]['scores']['CIDEr-D']:7.3f}"
        assert f"    {name:<9}  {value}  {first[side]['caption']}\n" in out
        assert f"signature    {name}  {content[side]['signature']}\n" in out
    assert f"reference           {first['references'][1]}" in out
    for name in NAMES:
        assert scores[name][0] == f"{content['A']['scores'][name]['score']:.4f}"
        assert scores[name][2] == f"{content['differences']['scores'][name]['difference']:+.4f}"
    assert scores["CIDEr-D"][-1] == "B higher"
    assert "warning      same  one caption is said of 100% of the pictures" in out
    found, threads = table(out, "cost"), torch.get_num_threads()
    assert found["peak memory, MB"] == ["4.00", "4.00", "1.00"] and found["parameters, million"][2] == "1.00"
    assert len(content["A"]["cost"]["pictures_per_second"]) == costs.REPEATS
    assert out.index("measuring    peak memory of same, in a process") < out.index("measured     cpu (")
    assert f", {threads} thread{'s' * (threads > 1)}, 24 pictures in batches of 32" in out


def test_a_teacher_and_its_student_are_compared(quick, made, tmp_path, capsys):
    shutil.copytree(made / "good", tmp_path / "good")
    change_settings(tmp_path / "good/best", DATA_DIR=made, DATASET="raw")
    sides, flags = ["git", str(tmp_path / "good/best")], ["--split", "test", "--output", str(tmp_path / "both.json")]
    assert evaluate.main(["--compare", *sides, *flags, "--beam", "2", "--batch-size", "24"]) == 0
    out, both = capsys.readouterr().out, json.loads((tmp_path / "both.json").read_text())
    assert f"data         test split of {made / 'raw'}, 24 pictures\n" in out
    assert "the data of good, as no --data-dir is given; git does not say what it was trained on\n" in out
    assert both["A"]["cost"]["weights_bytes"] == (made / "git" / "model.safetensors").stat().st_size
    assert both["A"]["cost"]["parameters"] > 20_000 and len(both["A"]["cost"]["pictures_per_second"]) == 3
    assert table(out, "score")["CIDEr-D"][-1] == "B higher" and "precision    float32\n" in out
    assert "decoding     beam search with 2 beams, length penalty 1\nat most      40 tokens a caption\n" in out
    assert all(row["A"]["log_probability"] < 0 for row in both["images"])
    assert evaluate.main(["--compare", *reversed(sides), *flags]) == 0
    assert "the data of good, as no --data-dir is given; git does not say" in capsys.readouterr().out


@pytest.mark.parametrize("beams, penalty", [(1, 1.0), (3, 1.0), (3, 0.0), (3, 2.0)])
def test_captions_of_git_come_with_their_log_probability(git, beams, penalty):
    parts, pixels = git.caption_pixels.__self__, torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    found = git.caption_pixels(pixels, DecodingOptions(12, beams, length_penalty=penalty))
    start, end = parts.tokenizer.cls_token_id, parts.tokenizer.sep_token_id
    for i, ((_, caption),) in enumerate(found):
        row = torch.tensor([[start, *caption.tokens, *[end] * caption.finished]])
        assert end not in caption.tokens and (caption.finished or len(caption.tokens) == 11)
        log_probs = git_logits(parts.model, pixels[i, None], row[:, :-1], torch.tensor([0])).log_softmax(-1)
        total = log_probs.gather(2, row[:, 1:, None]).sum().item()
        assert caption.score == pytest.approx(total / (row.shape[1] - 1) ** penalty, abs=1e-4)
    assert beams > 1 or len({caption.finished for ((_, caption),) in found}) > 1  # both kinds were looked at


def test_peak_memory_is_that_of_a_process_of_its_own(made, git):
    options, pictures = DecodingOptions(4), sorted((made / "raw/Images").iterdir())[:2]
    outcome = Outcome("git", git, options, "float32", None)
    assert 50e6 < costs.peak_of_own_process(outcome, pictures, 2) < 5e9
    job = {
        "path": str(made / "good/best"),
        "device": "cpu",
        "precision": "float32",
        "options": asdict(options),
        "pictures": [str(path) for path in pictures],
        "batch_size": 2,
    }
    assert costs.measure(job) > 50e6  # what that process does, for a captioner and in this one


def test_a_model_compared_with_itself_differs_by_exactly_nothing(quick, tmp_path, capsys):
    flags = ["--split", "test", "--data-dir", "raw", "--output", str(tmp_path / "both.json")]
    assert evaluate.main(["--compare", "good/best", "good/best", *flags]) == 0
    out, content = capsys.readouterr().out, json.loads((tmp_path / "both.json").read_text())
    assert all(value == {"difference": 0, "low": 0, "high": 0} for value in content["differences"]["scores"].values())
    assert content["differences"]["pictures_by_cider_d_of_b"] == {"higher": 0, "equal": 24, "lower": 0}
    assert content["differences"]["equal_captions"] == 24
    assert "good (A)" in out and "good (B)" in out
    assert {cells[-1] for name, cells in table(out, "score").items() if name in NAMES} == {"equal"}


def test_the_json_holds_what_a_plain_evaluation_of_each_side_says(quick, tmp_path):
    flags = ["--split", "test", "--data-dir", "raw", "--beam", "1", "--batch-size", "7", "--output"]
    assert evaluate.main(["--compare", "same/best", "good/best", *flags, str(tmp_path / "both.json")]) == 0
    both = json.loads((tmp_path / "both.json").read_text())
    assert set(both) == {"A", "B", "differences", "cost_measured_on", "images"} and len(both["images"]) == 24
    for side, name in (("A", "same/best"), ("B", "good/best")):
        assert evaluate.main(["--checkpoint", name, *flags, str(tmp_path / "one.json")]) == 0
        plain = json.loads((tmp_path / "one.json").read_text())
        del plain["not_computed"]  # METEOR and SPICE, which a comparison does not have
        images = plain.pop("images")
        assert {key: value for key, value in both[side].items() if key not in ("name", "cost")} == plain
        assert [{key: row[key] for key in ("image", "references")} | row[side] for row in both["images"]] == images
    for name, value in both["differences"]["scores"].items():
        assert value["difference"] == both["B"]["scores"][name]["score"] - both["A"]["scores"][name]["score"]
        assert value["low"] <= value["difference"] <= value["high"]
    gains = [row["B"]["scores"]["CIDEr-D"] - row["A"]["scores"]["CIDEr-D"] for row in both["images"]]
    assert both["differences"]["pictures_by_cider_d_of_b"]["higher"] == sum(gain > 0 for gain in gains)


def test_the_paired_interval_of_similar_captions_is_narrower_than_that_of_two_apart():
    references = [[f"{scene} .", f"there is {scene} ."] for scene in CAPTIONS]
    wrong = [i % 3 == 0 for i in range(24)]  # for both, but that b has a quarter of them right
    a = score_captions(["a small blue square" if w else c for w, c in zip(wrong, CAPTIONS)], references)
    wrong[3] = wrong[15] = False
    b = score_captions(["a small blue square" if w else c for w, c in zip(wrong, CAPTIONS)], references)
    paired, first = difference_intervals(a, b), a.intervals()
    second = percentiles(b.resampled(bootstrap(b.num_images, seed=1)))
    for name in NAMES:
        apart = np.hypot(np.diff(first[name]), np.diff(second[name])).item()  # widths of independent samples add so
        assert 0 < np.diff(paired[name]).item() < 0.9 * apart
        assert paired[name][0] <= b.mean[name] - a.mean[name] <= paired[name][1]
    assert difference_intervals(a, a) == dict.fromkeys(NAMES, (0.0, 0.0))


def test_without_data_dir_the_data_of_a_is_taken_and_differing_settings_are_said(quick, made, tmp_path, capsys):
    for name in ("good", "same"):
        shutil.copytree(made / name, tmp_path / name)
    change_settings(tmp_path / "good/best", DATA_DIR=made, DATASET="raw", BEAM_SIZE=1)
    change_settings(tmp_path / "same/best", DATA_DIR=made, DATASET="other", BEAM_SIZE=2, LENGTH_PENALTY=0.5)
    sides = ["--compare", str(tmp_path / "good/best"), str(tmp_path / "same/best"), "--split", "test"]
    assert evaluate.main(sides) == 0
    out = capsys.readouterr().out
    assert f"data         test split of {made / 'raw'}, 24 pictures\n" in out
    assert f"the data of good, as no --data-dir is given; same was trained on {made / 'other'}\n" in out
    assert "decoding     good: greedy decoding; same: beam search with 2 beams, length penalty 0.5\n" in out
    assert "--beam and --length-penalty decode both alike" in out
    assert evaluate.main([*sides, "--data-dir", "raw", "--beam", "3", "--length-penalty", "1"]) == 0
    out = capsys.readouterr().out
    assert "decoding     beam search with 3 beams, length penalty 1\n" in out
    assert "decode both alike" not in out and "as no --data-dir" not in out


@pytest.mark.parametrize(
    "paths, names",
    [
        (("runs/teacher/best", "runs/student/best"), ("teacher", "student")),
        (("one/x/best", "two/x/best"), ("one", "two")),
        (("runs/x/best", "runs/x/checkpoint_epoch_2.pt"), ("x", "checkpoint_epoch_2.pt")),
        (("user/captioner", "other/captioner"), ("user", "other")),
        (("runs/x/best", "git"), ("x", "git")),
        (("x/best", "x/best"), ("x (A)", "x (B)")),
        (("x/best", "x"), ("x (A)", "x (B)")),
        (("runs/x/best", "runs/x/best,runs/y/best"), ("x", "x+y")),
        (("x/best,y/best", "runs/x/best,runs/y/best"), ("x+y (A)", "x+y (B)")),
    ],
)
def test_names_are_short_and_tell_the_sides_apart(paths, names):
    assert short_names(*paths) == names


def test_memory_that_cannot_be_measured_is_a_dash_and_a_reason(made, monkeypatch, capsys):
    def fail(*_, **__):
        raise UserError("Killed")

    monkeypatch.setattr(own_process, "run_python", fail)
    side = load_any(str(made / "good" / "best"), torch.device("cpu"))
    outcome = Outcome("good", side, DecodingOptions(side.max_seq_len), "float32", None)
    assert costs.peak_of_own_process(outcome, [], 2) is None
    assert "the memory of good is not measured: Killed" in capsys.readouterr().err
    assert cost_cells([None, 3], 1) == ["-", "-", "-"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--checkpoint", "good/best"], "leave out --checkpoint"),
        (["--spice"], "no METEOR and SPICE"),
        (["--compare", "good/best", "gone/new/best"], "there is no gone/new/best; expected a best/ folder"),
        (["--data-dir", "gone"], "there is no data in gone"),
        (["--data-dir", "raw", "--split", "val"], "has the splits test"),
        (["--data-dir", "raw", "--split", "test", "--beam", "0"], "must be 1 to 1,000"),
    ],
)
def test_mistakes_are_user_errors_before_anything_is_captioned(quick, arguments, message):
    with pytest.raises(UserError, match=message) as error:
        evaluate.main(["--compare", "good/best", "same/best", *arguments])
    assert "\n" not in str(error.value)


def test_compare_py_says_what_evaluate_py_does(quick, made):
    flags = ["same/best", "good/best", "--split", "test", "--data-dir", "raw", "--num-samples", "3"]
    ours, theirs = call(compare.main, *flags, cwd=made), call(evaluate.main, "--compare", *flags, cwd=made)
    assert ours.returncode == theirs.returncode == 0
    said = [result.stdout.split("speed,")[0].split() for result in (ours, theirs)]  # columns are as wide as the speeds
    assert said[0] == said[1] and "CIDEr-D" in said[0]


def test_captions_are_scored_once_a_side_and_a_metric_of_ones_own_is_compared_too(quick, monkeypatch, capsys):
    counting = WordCount()
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, counting))
    assert evaluate.main(["--compare", "same/best", "good/best", "--split", "test", "--data-dir", "raw"]) == 0
    assert counting.asked == 2 and "words" in table(capsys.readouterr().out, "score")


def test_pictures_are_decoded_once_a_side_and_those_left_out_are_the_same_for_both(quick, made, tmp_path, monkeypatch):
    shutil.copytree(made / "raw", tmp_path / "raw")
    (tmp_path / "raw/Images/03.png").write_bytes(b"no picture")
    decoded, to_rgb = [], images.to_rgb
    monkeypatch.setattr(images, "to_rgb", lambda *image: decoded.append(1) or to_rgb(*image))
    monkeypatch.setattr("scoring.comparison_report.measure_costs", lambda *_: ([{}, {}], {}))
    monkeypatch.setattr("scoring.comparison_report.format_costs", lambda *_: "")
    flags = ["--split", "test", "--data-dir", str(tmp_path / "raw"), "--output", str(tmp_path / "both.json")]
    assert compare.main(["same/best", "good/best", *flags]) == 0
    both = json.loads((tmp_path / "both.json").read_text())
    assert len(decoded) == 2 * 23 and len(both["images"]) == 23
    assert both["A"]["left_out"] == both["B"]["left_out"] and len(both["A"]["left_out"]) == 1


def test_a_picture_that_goes_between_the_sides_is_named(quick, monkeypatch):
    seen, load_image = set(), images.load_image

    def load_once(path):
        if path in seen and path.name == "05.png":
            raise ImageError(f"cannot read {path}: there is no such file")
        seen.add(path)
        return load_image(path)

    monkeypatch.setattr(picture_files, "load_image", load_once)
    with pytest.raises(UserError, match="was there for A and is not for B: .*05.png"):
        compare.main(["same/best", "good/best", "--split", "test", "--data-dir", "raw"])
