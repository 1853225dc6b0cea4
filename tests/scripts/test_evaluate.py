"""evaluate.py as a user runs it: scores, intervals, signature, JSON, withheld data, and the collapse alarm."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from in_process import call
from PIL import Image
from tiny import run, tiny_model, tiny_settings, tiny_tokenizer
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

import evaluate
from captioner import any_captioner
from captioner.folder import Captioner, captioner_config, load_captioner, save_captioner
from networks.caption import Caption
from networks.decoding_options import DecodingOptions
from networks.encoder import prepare_pixels
from scoring.clip_score import clip_score
from scoring.evaluation import caption_pixels, score_evaluation
from scoring.metrics import score_captions
from sources import images
from sources.images import load_image
from sources.pictures import Pictures, spread

SCENES = [
    f"a {size} {color} {shape}"
    for size in ("small", "large")
    for color in ("red", "blue")
    for shape in ("circle", "square")
]
CAPTIONS = [
    f"{scene} left of a {other}" for scene in SCENES for other in ("small red circle", "large blue square", "circle")
]


def write_flickr8k(folder):
    """24 pictures in Flickr8k's own form: a test list, no other split."""
    images = folder / "Images"
    images.mkdir(parents=True)
    lines = []
    for i, caption in enumerate(CAPTIONS):
        Image.effect_noise((32, 32), 60).convert("RGB").save(images / f"{i:02}.png")
        lines += [f"{i:02}.png#0\t{caption} .", f"{i:02}.png#1\tthere is {caption} ."]
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    (folder / "Flickr_8k.testImages.txt").write_text("".join(f"{i:02}.png\n" for i in range(24)))


def fit(captions, folder, pictures):
    """Overfit a tiny captioner on the pictures and save it as best/."""
    torch.manual_seed(0)
    settings, tokenizer = tiny_settings(), tiny_tokenizer()
    model, processor = tiny_model(
        DECODER_EMBED_DIM=64, DECODER_FF_DIM=128, SCRATCH_EMBED_DIM=64, SCRATCH_PATCH_SIZE=8, DECODER_DROPOUT=0.0
    )
    pixels = prepare_pixels(processor, [load_image(path) for path in sorted(pictures.iterdir())])
    ids = [tokenizer.encode(caption) for caption in captions]
    tokens = torch.tensor([row + [0] * (max(map(len, ids)) - len(row)) for row in ids])
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(250):
        optimizer.zero_grad()
        logits = model(pixels, tokens[:, :-1])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=0).backward()
        optimizer.step()
    config = captioner_config(model, tokenizer, settings.to_dict(), epoch=1)
    save_captioner(Captioner(model.eval(), tokenizer, processor, config), folder, epoch=1, extra_files={})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """raw/ (pictures), good/ and same/ (captioners that tell all pictures apart, and none); the tests only read it."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_flickr8k(folder / "raw")
    fit(CAPTIONS, folder / "good", folder / "raw" / "Images")
    fit(["a small red circle"] * 24, folder / "same", folder / "raw" / "Images")
    return folder


def evaluate_test(folder, name, *arguments):
    flags = ["--checkpoint", name, "--split", "test", "--data-dir", "raw", *arguments]
    return call(evaluate.main, *flags, cwd=folder)


def test_a_good_model_is_scored_and_sounds_no_alarm(made, tmp_path):
    result = evaluate_test(made, "good", "--beam", 2, "--output", tmp_path / "results.json")
    assert result.returncode == 0 and "warning" not in result.stdout
    results = json.loads((tmp_path / "results.json").read_text())
    texts = [image["caption"] for image in results["images"]]
    references = [image["references"] for image in results["images"]]
    assert len(texts) == 24 and len(set(texts)) > 18
    expected = score_captions(texts, references)
    for name, value in results["scores"].items():
        assert value["score"] == pytest.approx(expected.mean[name])
        assert value["low"] <= value["score"] <= value["high"]
        assert f"{name:<12} {value['score']:.4f}   {value['low']:.4f} to {value['high']:.4f}" in result.stdout
        assert results["images"][3]["scores"][name] == pytest.approx(expected.per_image[name][3], abs=1e-6)
    assert "caption    " + texts[0] in result.stdout and "reference  " + references[0][1] in result.stdout
    line = result.stdout.split("signature    ")[1].splitlines()[0]
    for part in (
        "tokenizer:ptb",
        "split:test",
        "images:24",
        "references:2",
        "beam:2",
        "length-penalty:1",
        "checkpoint:",
    ):
        assert part in line
    assert results["signature"] == line


def test_a_model_that_says_the_same_of_all_pictures_sounds_the_alarm(made):
    result = evaluate_test(made, "same")
    assert result.returncode == 0
    assert 'one caption is said of 100% of the pictures, "a small red circle"' in result.stdout
    assert "the pictures are not used" in result.stdout and "LEARNING_RATE" in result.stdout


def test_the_signature_changes_with_what_decides_the_numbers(made, tmp_path):
    shutil.copytree(made / "raw", tmp_path / "raw")
    captions = (tmp_path / "raw" / "Flickr8k.token.txt").read_text()
    (tmp_path / "raw" / "Flickr8k.token.txt").write_text(captions.replace("circle", "disc"))
    signatures = {
        evaluate_test(folder, made / name, *arguments, "--num-samples", 0).stdout.split("signature    ")[1]
        for folder, name, *arguments in (
            (made, "good"),
            (made, "good", "--beam", 2),
            (made, "same"),
            (tmp_path, "good"),
        )
    }
    assert len(signatures) == 4


def test_any_batch_size_gives_the_same_captions_and_that_many_are_read_at_once(made, monkeypatch):
    captioner, paths = load_captioner(made / "good"), sorted((made / "raw" / "Images").iterdir())
    found = []
    for batch_size in (5, 24):
        sizes = []

        def read(numbers, sizes=sizes):
            sizes.append(len(numbers))
            return prepare_pixels(captioner.image_processor, [load_image(paths[i]) for i in numbers])

        monkeypatch.setattr("scoring.evaluation.BATCH", batch_size)
        captions = caption_pixels(captioner, read, [*range(24)], DecodingOptions(), torch.float32)
        found.append([text for text, _ in captions])
        assert max(sizes) == batch_size
    assert found[0] == found[1]


def test_samples_are_spread_and_none_is_shown_twice():
    assert spread(3, 9) == [0, 3, 6] and spread(5, 3) == [0, 1, 2] and spread(0, 3) == []


def test_damaged_pictures_are_counted_and_left_out(made, tmp_path):
    shutil.copytree(made / "raw", tmp_path / "raw")
    (tmp_path / "raw" / "Images" / "03.png").write_bytes(b"no picture")
    result = evaluate_test(tmp_path, made / "good", "--output", "results.json")
    results = json.loads((tmp_path / "results.json").read_text())
    assert result.returncode == 0 and "left out     1 pictures, cannot read raw/Images/03.png" in result.stdout
    assert "images:23" in results["signature"] and len(results["images"]) == 23
    assert results["left_out"] == ["cannot read raw/Images/03.png: it is no picture (JPEG, PNG, GIF, WEBP, BMP, TIFF)"]


def test_without_the_damaged_pictures_the_results_are_the_same(made, tmp_path):
    damaged, whole = (shutil.copytree(made / "raw", tmp_path / name / "raw") for name in ("damaged", "whole"))
    for number in ("00", "03", "04", "23"):
        (damaged / "Images" / f"{number}.png").write_bytes(b"no picture")
        (whole / "Images" / f"{number}.png").unlink()
        split = whole / "Flickr_8k.testImages.txt"
        split.write_text(split.read_text().replace(f"{number}.png\n", ""))
    results = []
    for name in ("damaged", "whole"):
        evaluate_test(tmp_path / name, made / "good", "--batch-size", 5, "--output", "results.json")
        results.append(json.loads((tmp_path / name / "results.json").read_text()))
    assert len(results[0].pop("left_out")) == 4 and results[1].pop("left_out") == []
    assert results[0] == results[1]


def test_each_picture_is_decoded_once(made, monkeypatch):
    decoded, to_rgb = [], images.to_rgb
    monkeypatch.setattr(images, "to_rgb", lambda *image: decoded.append(1) or to_rgb(*image))
    assert evaluate_test(made, "good", "--batch-size", 7).returncode == 0
    assert len(decoded) == 24


def test_where_no_picture_can_be_read_the_first_reason_is_said(made, tmp_path):
    shutil.copytree(made / "raw", tmp_path / "raw")
    for path in (tmp_path / "raw" / "Images").iterdir():
        path.write_bytes(b"")
    result = evaluate_test(tmp_path, made / "good")
    assert result.returncode == 1 and "none of the 24 pictures can be read: cannot read" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--checkpoint", "good", "--data-dir", "raw", "--split", "val"], "has the splits test"),
        (["--checkpoint", "good", "--data-dir", "gone"], "there is no data in gone"),
        (["--checkpoint", "gone", "--data-dir", "raw"], "there is no gone"),
        (["--data-dir", "raw"], "no trained captioner"),
        (["--checkpoint", "good", "--data-dir", "raw", "--split", "test", "--beam", "0"], "must be 1 to 1,000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_end_in_one_line(made, arguments, message):
    result = call(evaluate.main, *arguments, cwd=made)
    assert result.returncode == 1 and message in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_process_of_its_own_says_no_more(made):
    result = run("evaluate.py", "--checkpoint", "good", "--data-dir", "raw", "--split", "test", cwd=made)
    assert (result.returncode, result.stderr) == (0, "") and result.stdout.splitlines()[-1].startswith("signature ")


@pytest.mark.parametrize("sides", [["--checkpoint", "good"], ["--compare", "good", "same"]], ids=lambda x: x[0])
@pytest.mark.parametrize(
    "arguments",
    [
        ["--beam", "0"],
        ["--length-penalty", "-1"],
        ["--batch-size", "0"],
        ["--device", "banana"],
        ["--data-dir", "gone"],
    ],
    ids=lambda flags: flags[0],
)
def test_what_can_be_refused_without_the_weights_is(made, monkeypatch, sides, arguments):
    monkeypatch.setattr(any_captioner, "load_captioners", lambda *_: pytest.fail("the weights were loaded"))
    result = call(evaluate.main, *sides, *arguments, cwd=made)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1


def test_metrics_that_are_not_there_are_named_and_never_faked(made, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    result = evaluate_test(made, "good", "--meteor")
    assert "METEOR       unavailable: there is no `java` on this machine" in result.stdout
    assert "SPICE        not computed (--spice" in result.stdout


def test_clip_score_is_the_weighted_cosine_of_picture_and_caption(tmp_path):
    words = {
        word: i
        for i, word in enumerate(["<|startoftext|>", "<|endoftext|>", "a</w>", "photo</w>", "depicts</w>", "dog</w>"])
    }
    (tmp_path / "vocab.json").write_text(json.dumps(words))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    side = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text = side | {"vocab_size": 6, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    torch.manual_seed(0)
    model = CLIPModel(
        CLIPConfig(text_config=text, vision_config=side | {"image_size": 32, "patch_size": 16}, projection_dim=8)
    )
    model.save_pretrained(tmp_path / "clip")
    processor = CLIPProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")),
    )
    processor.save_pretrained(tmp_path / "clip")
    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    values = clip_score(str(tmp_path / "clip"), [tmp_path / "red.png"], ["a dog"], "cpu")
    inputs = processor(text=["A photo depicts a dog"], images=[load_image(tmp_path / "red.png")], return_tensors="pt")
    with torch.no_grad():
        output = model.eval()(**inputs)
    cosine = torch.nn.functional.cosine_similarity(output.image_embeds, output.text_embeds).item()
    assert values.score == pytest.approx(2.5 * max(cosine, 0), abs=1e-5)
    assert "unavailable" in clip_score(str(tmp_path / "gone"), [], [], "cpu")


def test_a_caption_equal_to_a_reference_but_for_case_and_punctuation_counts_as_exact():
    captions = [("a dog runs", Caption([], 0.0, True)), ("a cat", Caption([], 0.0, True))]
    pictures = Pictures("val", [Path("a.png"), Path("b.png")], [["A dog runs ."], ["a dog"]], [])
    assert score_evaluation(captions, pictures, DecodingOptions(), torch.float32, "x").exact == 1
