"""GIT as a teacher: the same logits as transformers, one image a batch, folders that load whole or are refused."""

import json

import pytest
import torch
from git_folders import WORDS, make_plain
from safetensors.torch import load_file, save_file
from tiny import CAPTIONS, save_tiny_vit, tiny_settings, tiny_tokenizer
from torch.nn import functional as F

from basics.errors import UserError
from benchmarks import git_teacher
from networks.decoding_options import DecodingOptions
from networks.encoder import quiet_transformers, token_shape
from networks.encoders import load_encoder
from networks.git import build_git, git_logits, load_git, save_git, train_wordpiece
from sources.captions import Captions
from sources.prepare import prepare

INDEX = torch.tensor([0, 2, 0, 1, 2, 2])  # images of six captions, uneven in number
PLAIN, AROUND = "GIT as transformers has it", "GIT around a ViT"


def make_pixels(num_images=3):
    return torch.randn(num_images, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def make_around(folder, dropout=0.0):
    """A random GIT around a random ViT."""
    settings = tiny_settings(ENCODER_MODEL_NAME=str(save_tiny_vit(folder)), ENCODER_TRAINABLE="none")
    torch.manual_seed(0)
    encoder, image_processor = load_encoder(settings)
    parts = build_git(
        encoder,
        image_processor,
        train_wordpiece(CAPTIONS, 80),
        hidden_size=24,
        layers=2,
        heads=2,
        intermediate_size=48,
        dropout=dropout,
        max_positions=40,
    )
    with torch.no_grad():  # larger weights, so that captions and logits differ by more than rounding
        for parameter in parts.model.parameters():
            parameter.mul_(4) if parameter.ndim == 2 and parameter.requires_grad else None
    parts.model.eval()
    return parts


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory):
    return make_plain(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def around_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("around") / "git"
    save_git(make_around(tmp_path_factory.mktemp("vit")), folder)
    return folder


@pytest.fixture(params=[PLAIN, AROUND])
def parts(request, plain_folder, around_folder):
    return load_git(plain_folder if request.param == PLAIN else around_folder)


def make_tokens(parts):
    captions = ["a small red circle", "there is a large blue square left of a red circle", "a circle"] * 2
    return parts.tokenizer(captions, padding=True, return_tensors="pt").input_ids


def texts(parts, pixels, options):
    return [[text for text, _ in row] for row in parts.caption_pixels(pixels, options)]


def test_captions_of_one_image_get_the_logits_that_each_gets_alone(parts):
    pixels, tokens = make_pixels(), make_tokens(parts)
    with torch.no_grad():
        found = git_logits(parts.model, pixels, tokens, INDEX)
        for row, image, logits in zip(tokens, INDEX, found):
            alone = parts.model(input_ids=row[None], pixel_values=pixels[image][None], use_cache=False).logits
            assert torch.allclose(logits, alone[0, -len(row) :], atol=1e-5)
    assert found.shape == (*tokens.shape, len(parts.tokenizer))


def test_the_first_token_alone_gets_the_same_logits(parts):
    with torch.no_grad():
        first = git_logits(parts.model, make_pixels(), make_tokens(parts)[:, :1], INDEX)
        whole = git_logits(parts.model, make_pixels(), make_tokens(parts), INDEX)
    assert torch.allclose(first, whole[:, :1], atol=1e-6)


def test_cross_entropy_of_the_logits_is_the_loss_that_git_reports(parts):
    pixels, tokens = make_pixels(), make_tokens(parts)
    labels = tokens.masked_fill(tokens == parts.tokenizer.pad_token_id, -100)
    with torch.no_grad():
        expected = parts.model(input_ids=tokens, pixel_values=pixels[INDEX], labels=labels).loss
        logits = git_logits(parts.model, pixels, tokens, INDEX)
    assert torch.allclose(F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()), expected, atol=1e-5)


def test_cached_features_are_taken_for_pixels(around_folder):
    parts = load_git(around_folder)
    with torch.no_grad():
        features = parts.model.git.image_encoder.encoder(make_pixels())
        assert features.shape[1:] == token_shape(parts.model.git.image_encoder.encoder, parts.image_processor)
        tokens = make_tokens(parts)
        expected = git_logits(parts.model, make_pixels(), tokens, INDEX)
        assert torch.equal(git_logits(parts.model, features[:, None], tokens, INDEX), expected)
        rounded = git_logits(parts.model, features[:, None].half(), tokens, INDEX)
    assert rounded.dtype == torch.float32 and torch.allclose(rounded, expected, atol=0.05)
    options = DecodingOptions(7, beam_size=2)
    assert texts(parts, features[:, None], options) == texts(parts, make_pixels(), options)


def test_a_saved_model_is_the_same_to_the_bit(tmp_path):
    parts = make_around(tmp_path / "vit", dropout=0.1)
    save_git(parts, tmp_path / "git")
    save_git(parts, tmp_path / "git")  # over an older one
    assert sorted(path.name for path in tmp_path.iterdir()) == ["git", "vit"]
    loaded = load_git(tmp_path / "git")
    tokens = make_tokens(parts)
    assert loaded.tokenizer.get_vocab() == parts.tokenizer.get_vocab()
    assert torch.equal(make_tokens(loaded), tokens)
    assert loaded.image_processor.size == parts.image_processor.size
    with torch.no_grad():
        found, expected = (git_logits(p.model, make_pixels(), tokens, INDEX) for p in (loaded, parts))
    assert torch.equal(found, expected)
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())


def test_wordpieces_have_their_ids_in_one_order_and_round_trip():
    tokenizer, again = train_wordpiece(CAPTIONS, 80), train_wordpiece(CAPTIONS, 80)
    assert tokenizer.get_vocab() == again.get_vocab()
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer))) and len(tokenizer) <= 80
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, 4]) == WORDS[:5]
    ids = tokenizer("A small RED circle")["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a small red circle"
    with pytest.raises(UserError, match="no room for the captions'"):
        train_wordpiece(CAPTIONS, 10)


def refusal(folder):
    """The one line that a folder is refused with."""
    with pytest.raises(UserError) as error:
        load_git(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_git_without_its_vocabulary_is_refused(tmp_path):
    folder = make_plain(tmp_path)
    for path in folder.glob("*token*"):
        path.unlink()
    assert f"has 5 tokens, its model {len(WORDS)}" in refusal(folder)


def test_folders_that_are_no_git_are_refused(tmp_path):
    assert "is a model of type 'vit'" in refusal(save_tiny_vit(tmp_path / "vit"))
    (tmp_path / "empty").mkdir()
    assert "cannot load the GIT model" in refusal(tmp_path / "empty")
    folder = make_plain(tmp_path / "git")
    weights = load_file(folder / "model.safetensors")
    del weights["output.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "lack 1 tensors, output.weight first" in refusal(folder)


@pytest.mark.parametrize("name", ["encoder", "config.json", "model.safetensors", "tokenizer.json"])
def test_a_git_of_ours_that_lacks_a_part_is_refused(name, tmp_path):
    save_git(make_around(tmp_path / "vit"), tmp_path / "git")
    (tmp_path / "git" / name).rename(tmp_path / "away")
    assert f"lacks {name}" in refusal(tmp_path / "git")


def test_a_git_of_ours_that_is_damaged_is_refused(around_folder, tmp_path):
    folder = make_around(tmp_path / "vit")
    save_git(folder, tmp_path / "git")
    weights = tmp_path / "git" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "cannot load the GIT model" in refusal(tmp_path / "git")
    kept = load_file(around_folder / "model.safetensors")
    save_file({k: v for k, v in kept.items() if k != "output.bias"}, weights)
    assert "output.bias" in refusal(tmp_path / "git")
    config = json.loads((tmp_path / "git" / "config.json").read_text())
    (tmp_path / "git" / "config.json").write_text(json.dumps({**config, "vocab_size": 7}))
    assert "cannot load the GIT model" in refusal(tmp_path / "git")


def test_a_half_precision_folder_loads_as_float32(around_folder, tmp_path):
    parts = load_git(make_plain(tmp_path / "plain", torch.float16))
    assert {p.dtype for p in parts.model.parameters()} == {torch.float32}
    weights = load_file(around_folder / "model.safetensors")
    ours = make_around(tmp_path / "vit")
    save_git(ours, tmp_path / "git")
    save_file({name: value.half() for name, value in weights.items()}, tmp_path / "git" / "model.safetensors")
    assert {p.dtype for p in load_git(tmp_path / "git").model.parameters()} == {torch.float32}


def test_gradients_reach_every_text_weight_as_without_a_cache_and_no_frozen_one(tmp_path):
    parts = make_around(tmp_path)
    model, pixels, tokens = parts.model, make_pixels(), make_tokens(parts)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert not any("image_encoder" in name for name in trained)
    git_logits(model, pixels, tokens, INDEX).square().sum().backward()
    found = {name: p.grad for name, p in trained.items()}
    model.zero_grad()
    logits = model(input_ids=tokens, pixel_values=pixels[INDEX], use_cache=False).logits[:, -tokens.shape[1] :]
    logits.square().sum().backward()
    assert any("visual_projection" in name for name in found) and any("encoder.layer.1" in name for name in found)
    for name, parameter in trained.items():
        assert torch.allclose(found[name], parameter.grad, rtol=1e-3, atol=1e-4), name
    assert found["git.visual_projection.visual_projection.0.weight"].abs().max() > 0.01  # far above that tolerance
    assert all(p.grad is None for p in model.git.image_encoder.parameters())


def test_greedy_captions_are_those_that_transformers_generates(parts):
    with torch.no_grad(), quiet_transformers():
        rows = parts.model.generate(pixel_values=make_pixels(), do_sample=False, max_new_tokens=8)
    expected = [[" ".join(text.split())] for text in parts.tokenizer.batch_decode(rows, skip_special_tokens=True)]
    assert texts(parts, make_pixels(), DecodingOptions(9)) == expected
    assert len({text for [text] in expected}) > 1  # the captions tell the images apart


def test_several_captions_an_image_do_not_depend_on_its_batch_and_the_mode_is_kept(parts):
    parts.model.train()
    options = DecodingOptions(7, beam_size=3, num_captions=2)
    rows = texts(parts, make_pixels(), options)
    assert parts.model.training and [len(row) for row in rows] == [2, 2, 2]
    assert rows[1] == texts(parts, make_pixels()[1:2], options)[0]


def test_an_image_is_encoded_once_however_many_beams_it_has(parts):
    seen = []
    parts.model.git.image_encoder.register_forward_hook(lambda *call: seen.append(len(call[2].last_hidden_state)))
    parts.caption_pixels(make_pixels(), DecodingOptions(7, beam_size=3))
    assert seen == [3]


def test_a_teacher_is_trained_and_captions_the_validation_pictures(tmp_path, capsys):
    prepare(tiny_settings(DATA_DIR=str(tmp_path / "data")), Captions(lambda captions: tiny_tokenizer()))
    encoder, output = save_tiny_vit(tmp_path / "vit"), tmp_path / "teacher"
    sizes = "--hidden-size 16 --layers 1 --heads 2 --batch-images 8 --vocab-size 90 --views 2 --num-workers 0".split()
    flags = ["--encoder", str(encoder), "--output", str(output), "--epochs", "1", *sizes]
    git_teacher.main(["--data-dir", str(tmp_path / "data" / "shapes"), *flags])
    out = capsys.readouterr().out
    assert "nats a caption" in out and "CIDEr-D" in out and "distinct captions of" in out and "best" in out
    parts = load_git(output)
    assert len(texts(parts, make_pixels(), DecodingOptions(6))) == 3
    with pytest.raises(UserError, match="holds no prepared data"):
        git_teacher.main(["--data-dir", str(tmp_path / "nothing"), *flags])
