"""Captioners that choose each token together: the mean of what they say, whoever asks, and who may join."""

import shutil

import pytest
import torch
from in_process import call, train
from PIL import Image
from tiny import save_tiny_vit, tiny_model, tiny_tokenizer

import evaluate
import export
import inference
from basics.errors import UserError
from captioner.ensemble import Ensemble, check_members, equal, load_captioners
from captioner.folder import Captioner
from captioner.places import members
from networks.decoding_options import DecodingOptions
from scoring import costs
from sources.images import load_image

START = 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two seeds over one frozen encoder, one with a vocabulary of its own, one with a larger picture, and a photo."""
    folder = tmp_path_factory.mktemp("trained")
    vit = save_tiny_vit(folder / "vit")
    frozen = {"RUN_NAME": "a", "NUM_EPOCHS": 1, "ENCODER_MODEL_NAME": vit, "ENCODER_TRAINABLE": "none"}
    for changes in (
        {},
        {"RUN_NAME": "b", "SEED": 7, "FINETUNE_FROM": "checkpoints/a/best"},
        {"RUN_NAME": "words", "VOCAB_PATH": "other.json", "MERGES_PATH": "other.txt", "VOCAB_SIZE": 280},
        {"RUN_NAME": "large", "ENCODER_MODEL_NAME": "scratch", "SCRATCH_IMAGE_SIZE": 48, "ENCODER_TRAINABLE": "all"},
    ):
        assert train(folder, **{**frozen, **changes}).returncode == 0
    Image.new("RGB", (50, 40), "red").save(folder / "photo.png")
    return folder


def logits_of(model, images, tokens):
    return model.decode(tokens, model.start(model.encode(images)))[0].log_softmax(-1)


def test_the_members_log_probabilities_are_averaged():
    models, images = [tiny_model(seed)[0] for seed in (0, 1)], torch.randn(2, 3, 32, 32)
    tokens = torch.tensor([[START, 5, 9], [START, 7, 7]])
    mean = (logits_of(models[0], images, tokens) + logits_of(models[1], images, tokens)) / 2
    assert torch.allclose(logits_of(Ensemble(models), images, tokens), mean.log_softmax(-1), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"beam_size": 3}])
def test_two_of_the_same_caption_as_the_one(trained, options):
    best, pictures = trained / "checkpoints/a/best", [load_image(trained / "photo.png")]
    shutil.copytree(best, trained / "copy", dirs_exist_ok=True)
    rows = [
        load_captioners(name).caption(pictures, DecodingOptions(**options)) for name in (best, f"{best},{trained}/copy")
    ]
    assert [text for text, _ in rows[0][0]] == [text for text, _ in rows[1][0]]
    assert rows[0][0][0][1].score == pytest.approx(rows[1][0][0][1].score, abs=1e-4)


def test_equal_encoders_run_once(trained):
    model = load_captioners(f"{trained}/checkpoints/a/best,{trained}/checkpoints/b/best").model
    assert model.models[0].encoder is model.models[1].encoder and not equal(*(m.decoder for m in model.models))
    seen = []
    model.models[0].encoder.register_forward_hook(lambda *_: seen.append(1))
    model.encode(torch.randn(1, 3, 32, 32))
    assert seen == [1]


def test_every_script_that_captions_takes_an_ensemble(trained, monkeypatch):
    measured = costs.peak_of_own_process  # starts Python: for the ensemble alone
    monkeypatch.setattr(costs, "peak_of_own_process", lambda of, *how: measured(of, *how) if of.name == "a+b" else 1)
    both = "checkpoints/a/best,checkpoints/b/best"
    result = call(inference.main, "photo.png", "--checkpoint", both, "--beam", 2, cwd=trained)
    assert result.returncode == 0 and result.stdout.strip()
    result = call(evaluate.main, "--checkpoint", both, cwd=trained)
    hashes = result.stdout.rpartition("checkpoint:")[2].strip().split(",")
    assert result.returncode == 0 and len(set(hashes)) == 2 and all(len(digits) == 12 for digits in hashes)
    result = call(evaluate.main, "--compare", "checkpoints/a/best", both, cwd=trained)
    assert result.returncode == 0 and "warning: the memory" not in result.stderr
    [sides] = [line.split() for line in result.stdout.splitlines() if line.startswith("cost")]
    assert sides[1:3] == ["A", "B"]
    [weights] = [line.split()[4:] for line in result.stdout.splitlines() if line.startswith("weights on disk")]
    assert float(weights[2]) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    "other, reason",
    [
        ("checkpoints/words/best", "vocabulary has hash"),
        ("checkpoints/large/best", "prepares pictures in another way"),
        ("checkpoints/none/best", "there is no"),
    ],
)
def test_who_does_not_fit_in_is_named_in_one_line(trained, other, reason):
    result = call(inference.main, "photo.png", "--checkpoint", f"checkpoints/a/best,{other}", cwd=trained)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert reason in result.stderr and other in result.stderr


def test_other_numbers_of_image_tokens_do_not_fit():
    fine, image_processor = tiny_model(SCRATCH_PATCH_SIZE=8)
    members = [Captioner(model, tiny_tokenizer(), image_processor, {}) for model in (tiny_model()[0], fine)]
    with pytest.raises(UserError, match="b cannot caption together with a: it has 17 image tokens, not 5"):
        check_members(members, ["a", "b"])


def test_names_are_parted_by_commas_unless_there_is_such_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert members(" a/best, b/best,") == ["a/best", "b/best"] and members("user/name") == ["user/name"]
    (tmp_path / "a,b").mkdir()
    assert members("a,b") == ["a,b"]


def test_one_captioner_is_what_other_scripts_take(trained):
    both = "checkpoints/a/best,checkpoints/b/best"
    result = call(export.main, "--checkpoint", both, cwd=trained)
    assert result.returncode == 1 and f"there is no {both}" in result.stderr
