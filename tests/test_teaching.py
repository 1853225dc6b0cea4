"""A teacher in a run: its predictions in our vocabulary, cached as made live, its captions, its warnings."""

import copy
import json
import re
import shutil

import numpy as np
import pytest
import torch
from git_folders import WORDS, make_plain
from tiny import TINY, flags, load_weights, same_weights, tiny_settings
from transformers import AutoProcessor, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor

import inference
import teacher_captions
import train as train_script
from alignment import Projection
from bundle import load_captioner
from cache_file import CacheFile
from caption_onnx import read_tokenizer
from dataset import ImageTextDataset, make_loader, start_epoch
from distill import DistillLoss
from errors import UserError
from images import load_image
from prepare_dataset import prepare
from run import start_run
from settings import SettingsError, load_settings
from targets import CachedTargets, LiveTargets, make_lesson, produce_targets
from teacher import GenerativeImageTextTeacher, fingerprint, load_teacher
from teaching import prepare_teaching
from tokenizer import build_tokenizer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def git(tmp_path_factory):
    return make_plain(tmp_path_factory.mktemp("teacher") / "git")


@pytest.fixture
def made(tmp_path, git, monkeypatch):
    """A teacher, a run and its datasets."""
    monkeypatch.chdir(tmp_path)
    return make_all(git)


def make_all(git, **changes):
    settings = tiny_settings(DISTILL="git", TEACHER_MODEL_NAME=str(git), **{"DISTILL_TOP_K": 16, **changes})
    data = prepare(settings)
    tokenizer = build_tokenizer(settings, data.captions_of("train"))
    state = start_run(settings, tokenizer, len(data.captions_of("train")), None)
    sets = [ImageTextDataset(data, split, tokenizer, state.image_processor, settings) for split in ("train", "val")]
    return state, *sets, load_teacher(str(git), CPU)


def train(**settings):
    """train.py in this process: each start of Python takes longer than these runs."""
    train_script.main(flags(**{**TINY, **settings}))


def first_batch(dataset, settings, epoch=0):
    loader = make_loader(dataset, settings, 0, shuffle=True)
    start_epoch(loader, epoch, 0)
    return next(iter(loader))


def test_the_teacher_gives_logits_features_and_hidden_states(git):
    teacher = GenerativeImageTextTeacher(git, CPU)
    pixels, tokens = torch.randn(2, 3, 32, 32), torch.tensor([[2, 5, 6], [2, 7, 8]])
    logits, features, hidden = teacher.outputs(pixels, tokens)
    assert logits.shape == (2, 3, teacher.vocab_size) and features.shape == (2, 5, 32)
    assert len(hidden) == 3 and hidden[-1].shape == (2, 5 + 3, 48)
    probs = teacher.probabilities(pixels, [[2, 5, 6, 3], [2, 7, 8, 3]], [0, 1])
    torch.testing.assert_close(probs, logits.softmax(-1).flatten(0, 1), rtol=1e-4, atol=1e-6)


def test_the_teachers_pictures_are_prepared_as_its_processor_does_it(git, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture = next((prepare(tiny_settings()).image_dir).glob("*.png"))
    expected = AutoProcessor.from_pretrained(git)(images=load_image(picture), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(load_teacher(str(git), CPU).pixels([load_image(picture)]), expected)


def test_cached_targets_are_those_made_live_whatever_the_order(made):
    state, train_set, _, teacher = made
    lesson = make_lesson(teacher, train_set.captions, train_set.tokens, state.tokenizer)
    teaching = prepare_teaching(state, train_set, made[2])
    live = LiveTargets(teacher, lesson, train_set, state.settings)
    train_set.view = lambda number: 0  # live, the teacher sees the crop of the epoch
    for epoch in (0, 1):
        batch = first_batch(train_set, state.settings, epoch)
        (ids, probs, supervised), (others, mass, also) = teaching.targets(batch), live(batch)
        assert len(ids) == int(batch["target_mask"].sum())
        whole, again = (torch.zeros(len(ids), 300).scatter(1, i, p) for i, p in ((ids, probs), (others, mass)))
        torch.testing.assert_close(whole, again, rtol=1e-3, atol=2e-4)
        assert torch.equal(supervised, also) and 0.3 < supervised.mean() <= 1


def test_a_teacher_that_runs_along_sees_the_crops_of_the_student_and_stays_as_it_is(git, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state, train_set, _, teacher = make_all(git, AUGMENT=True, GROUP_CAPTIONS=False)
    lesson = make_lesson(teacher, train_set.captions, train_set.tokens, state.tokenizer)
    live, before = LiveTargets(teacher, lesson, train_set, state.settings), copy.deepcopy(teacher.model.state_dict())
    seen = []
    monkeypatch.setattr(teacher, "pixels", lambda images: seen.extend(images) or GenerativeImageTextTeacher.pixels(
        teacher, images))  # fmt: skip
    batch = first_batch(train_set, state.settings, epoch=3)
    assert batch["image_index"] is not None
    criterion = DistillLoss(live, state.settings)
    loss, count = criterion(state.model.train(), batch)
    (loss / count).backward()
    numbers = batch["image_numbers"].tolist()
    assert all(image.tobytes() == train_set.image(n, 4).tobytes() for image, n in zip(seen, numbers))
    assert all(torch.equal(value, before[name]) for name, value in teacher.model.state_dict().items())
    assert all(parameter.grad is not None for parameter in state.model.parameters())


def test_predictions_are_the_naive_ones_caption_by_caption(made):
    state, train_set, _, teacher = made
    lesson = make_lesson(teacher, train_set.captions, train_set.tokens, state.tokenizer)
    batch = first_batch(train_set, state.settings)
    found = prepare_teaching(state, train_set, made[2]).targets(batch)
    caption = int(batch["caption_numbers"][0])
    pixels = teacher.pixels([train_set.image(train_set.image_of(caption), 0)])
    tokens = torch.tensor([lesson.rows[caption]])
    with torch.no_grad():
        logits = teacher.model(input_ids=tokens, pixel_values=pixels, use_cache=False).logits[0, -tokens.shape[1] :]
    for number, place in enumerate(lesson.places[caption]):
        if place >= 0:
            expected = lesson.projection(logits[place].softmax(-1)[None])[0]
            torch.testing.assert_close(found[1][number], expected[found[0][number]], rtol=1e-2, atol=1e-3)


def test_one_vocabulary_needs_no_projection_and_leaves_no_target_out(tmp_path, monkeypatch, git):
    monkeypatch.chdir(tmp_path)
    train(RUN_NAME="one", NUM_EPOCHS=1)
    best = tmp_path / "checkpoints" / "one" / "best"
    state, train_set, val_set, teacher = make_all(best)
    lesson = make_lesson(teacher, train_set.captions, train_set.tokens, state.tokenizer)
    assert lesson.projection.rows is None and lesson.supervised == 1
    targets = prepare_teaching(state, train_set, val_set).targets
    batch = first_batch(train_set, state.settings)
    ids, probs, _ = targets(batch)
    student_view = train_set.pixels(batch["image_numbers"].tolist(), [0] * len(batch["image_numbers"]))
    with torch.no_grad():
        expected = teacher.model(
            student_view, batch["decoder_input_tokens"], batch["image_index"], batch["target_mask"]
        ).softmax(-1)
    torch.testing.assert_close(probs, expected.gather(1, ids), rtol=1e-3, atol=1e-4)


def test_a_student_with_the_teachers_wordpieces_learns_its_whole_distribution(git, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    state, train_set, val_set, teacher = make_all(git, TOKENIZER="teacher", DISTILL_TEMPERATURE=2.0, DISTILL_TOP_K=8)
    assert all(state.tokenizer.encode(text) == teacher.encode([text])[0][0] for text in train_set.captions)
    lesson = make_lesson(teacher, train_set.captions, train_set.tokens, state.tokenizer)
    assert lesson.projection.rows is None and lesson.supervised == 1
    prepare_teaching(state, train_set, val_set)
    train(RUN_NAME="same", DISTILL="git", TEACHER_MODEL_NAME=git, TOKENIZER="teacher", DISTILL_TOP_K=8)
    loaded = load_captioner(tmp_path / "checkpoints" / "same" / "best").tokenizer
    assert loaded.hash == state.tokenizer.hash
    folder = tmp_path / "checkpoints" / "same" / "best"
    ids = state.tokenizer.encode("a large red circle")
    exported = read_tokenizer(folder / "vocab.json", folder / "merges.txt")
    assert exported.decode(ids[1:-1]) == loaded.decode(ids) == "a large red circle"


def test_a_cut_caption_is_not_taught_where_it_was_cut(git, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state, train_set, _, teacher = make_all(git, MAX_SEQ_LEN=6)
    lesson = make_lesson(teacher, train_set.captions, train_set.tokens, state.tokenizer)
    assert [len(row) for row in lesson.places] == [len(row) - 1 for row in train_set.tokens]
    cut = [len(state.tokenizer.encode(text)) > 6 for text in train_set.captions]
    assert any(cut) and all(row[-1] == -1 for row, was_cut in zip(lesson.places, cut) if was_cut)


def test_a_teacher_of_the_same_length_and_vocabulary_teaches_no_end_where_both_cut(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(RUN_NAME="short", NUM_EPOCHS=1, MAX_SEQ_LEN=6)
    state, train_set, _, teacher = make_all(tmp_path / "checkpoints" / "short" / "best", MAX_SEQ_LEN=6)
    lesson = make_lesson(teacher, train_set.captions, train_set.tokens, state.tokenizer)
    for text, row in zip(train_set.captions, lesson.places):
        whole = len(state.tokenizer.encode(text))
        assert row == list(range(whole - 1)) if whole <= 6 else row == [0, 1, 2, 3, -1]
    longer = make_lesson(teacher, ["a large red circle left of a large blue square"], [
        state.tokenizer.encode("a large red circle left of a large blue square")], state.tokenizer)  # fmt: skip
    assert longer.places[0][:5] == [0, 1, 2, 3, 4] and set(longer.places[0][5:]) == {-1}


def test_a_special_token_written_in_a_caption_teaches_nothing_wrong(git):
    teacher = load_teacher(str(git), CPU)
    text = "a red [SEP] circle"
    ours = teacher.caption_tokenizer
    assert set(make_lesson(teacher, [text], [ours.encode(text)], ours).places[0]) == {-1}


def test_another_teacher_vocabulary_or_number_of_tokens_makes_another_file(made, git, tmp_path):
    state, train_set, val_set, _ = made
    folder = state.settings.data_path / "teacher"
    prepare_teaching(state, train_set, val_set)
    assert len(list(folder.glob("targets-*.bin"))) == 1
    state.settings = state.settings.replace(DISTILL_TOP_K=8)
    prepare_teaching(state, train_set, val_set)
    other = tmp_path / "other"
    shutil.copytree(git, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-6}))
    assert fingerprint(other) != fingerprint(git)
    state.settings = state.settings.replace(TEACHER_MODEL_NAME=str(other))
    prepare_teaching(state, train_set, val_set)
    train_set.references[0], train_set.references[1] = train_set.references[1], train_set.references[0]
    prepare_teaching(state, train_set, val_set)
    val_set.references[0] = ["a small red circle"] * 5
    prepare_teaching(state, train_set, val_set)
    state.dtype = torch.bfloat16
    prepare_teaching(state, train_set, val_set)
    state.tokenizer.vocab = state.tokenizer.vocab | {"more": 300}
    prepare_teaching(state, train_set, val_set)
    assert len(list(folder.glob("targets-*.bin"))) == 7


def test_predictions_under_the_name_of_others_are_refused(made):
    state, train_set, val_set, _ = made
    prepare_teaching(state, train_set, val_set)
    (path,) = (state.settings.data_path / "teacher").glob("targets-*.bin")
    state.settings = state.settings.replace(DISTILL_TOP_K=8)
    prepare_teaching(state, train_set, val_set)
    (other,) = set((state.settings.data_path / "teacher").glob("targets-*.bin")) - {path}
    for suffix in (".bin", ".json"):
        shutil.copy(path.with_suffix(suffix), other.with_suffix(suffix))
    with pytest.raises(UserError, match="made from other inputs"):
        prepare_teaching(state, train_set, val_set)


def test_a_cached_lesson_needs_no_teacher_loaded(made, monkeypatch):
    state, train_set, val_set, _ = made
    first = prepare_teaching(state, train_set, val_set)
    monkeypatch.setattr("teaching.load_teacher", lambda *_: pytest.fail("the teacher was loaded"))
    assert prepare_teaching(state, train_set, val_set).findings == first.findings


def test_temperature_is_refused_between_two_vocabularies(git, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state, train_set, val_set, _ = make_all(git, DISTILL_TEMPERATURE=2.0)
    with pytest.raises(UserError, match="DISTILL_TEMPERATURE must be 1"):
        prepare_teaching(state, train_set, val_set)


def test_the_teachers_captions_are_mixed_in_at_their_share_and_change_from_epoch_to_epoch(made):
    state, train_set, val_set, _ = made
    own = len(train_set)
    state.settings = state.settings.replace(DISTILL_CAPTIONS=0.4, DISTILL_ALPHA=0.0, DISTILL_BEAMS=2)
    prepare_teaching(state, train_set, val_set)
    assert len(train_set) == own and len(train_set.captions) == own + len(train_set.names)
    shown = []
    for train_set.epoch in (0, 1):
        shown.append([row["caption_number"] for row in train_set.__getitems__(list(range(own)))])
    shares = [np.mean(np.array(row) >= own) for row in shown]
    assert all(0.25 < share < 0.55 for share in shares) and shown[0] != shown[1]
    assert all(train_set.image_of(c) == train_set.image_numbers[p] for row in shown for p, c in enumerate(row))


def test_of_the_teachers_beams_the_nearest_to_the_references_is_taken(made, monkeypatch):
    state, train_set, val_set, _ = made
    asked = iter(range(len(train_set.names)))
    monkeypatch.setattr(GenerativeImageTextTeacher, "captions", lambda _, pixels, *how: [
        ["zebra", train_set.references[next(asked)][0], "a"] for _ in pixels])  # fmt: skip
    state.settings = state.settings.replace(DISTILL_CAPTIONS=0.4, DISTILL_ALPHA=0.0)
    prepare_teaching(state, train_set, val_set)
    assert train_set.captions[len(train_set) :] == [row[0] for row in train_set.references]


def test_a_run_with_a_teacher_ends_in_a_captioner_without_it(tmp_path, git, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train(RUN_NAME="taught", DISTILL="git", TEACHER_MODEL_NAME=git, DISTILL_TOP_K=16)
    assert re.search(r"teacher +predicts \d+\.\d% of our targets", capsys.readouterr().out)
    card = (tmp_path / "checkpoints" / "taught" / "best" / "README.md").read_text()
    assert re.search(r"learned from the teacher git: its predictions \(share 0.5, 16 likeliest tokens, \d+%", card)
    train(RUN_NAME="alone")
    taught, alone = (load_weights(sorted((tmp_path / "checkpoints" / name).glob("checkpoint_step_*"))[-1])
                     for name in ("taught", "alone"))  # fmt: skip
    assert {n: w.shape for n, w in taught.items()} == {n: w.shape for n, w in alone.items()}
    assert not same_weights(taught, alone)
    shutil.rmtree(tmp_path / "data" / "shapes" / "teacher")
    monkeypatch.setattr("teacher.load_teacher", lambda *_: pytest.fail("the teacher was loaded"))
    picture = next((tmp_path / "data" / "shapes" / "images").glob("*.png"))
    assert inference.main([str(picture), "--checkpoint", "checkpoints/taught/best"]) in (0, None)
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("changes", [
    {"DISTILL": "git", "DISTILL_CAPTIONS": 0.3, "DISTILL_BEAMS": 2, "DISTILL_TOP_K": 16},
    {"DISTILL": "momentum", "EMA_DECAY": 0.99, "PRECISION": "bf16"},
    {"DISTILL": "git", "DISTILL_ALPHA": 0, "DISTILL_FEATURES": "projection=git.visual_projection",
     "GROUP_CAPTIONS": False, "NUM_WORKERS": 1, "GRADIENT_ACCUMULATION_STEPS": 2},
])  # fmt: skip
def test_a_stopped_run_with_a_teacher_goes_on_to_the_bit(tmp_path, git, monkeypatch, changes):
    monkeypatch.chdir(tmp_path)
    changes = changes | ({"TEACHER_MODEL_NAME": git} if changes["DISTILL"] == "git" else {})
    changes |= {"CHECKPOINT_EVERY_STEPS": 1, "KEEP_LAST_N": 9}
    train(RUN_NAME="whole", **changes)
    steps = sorted((tmp_path / "checkpoints" / "whole").glob("checkpoint_step_*"))
    train(RUN_NAME="resumed", RESUME_CHECKPOINT_PATH=steps[0], **changes)
    last = tmp_path / "checkpoints" / "resumed" / steps[-1].name
    assert same_weights(load_weights(last), load_weights(steps[-1]))


def test_a_worse_teacher_and_one_that_never_ends_are_said(made, capsys):
    state, train_set, val_set, _ = made
    teaching = prepare_teaching(state, train_set, val_set)
    assert "warning      the teacher expects the end" in capsys.readouterr().out
    assert "better than its teacher" in teaching.warnings(0.01, val_set)[0]
    assert teaching.warnings(1e3, val_set) == []


@pytest.mark.parametrize("changes, words", [
    ({"DISTILL": "git"}, "needs TEACHER_MODEL_NAME"),
    ({"DISTILL": "git", "TEACHER_MODEL_NAME": "./nowhere"}, "is not here"),
    ({"DISTILL": "momentum"}, "needs EMA_DECAY"),
    ({"DISTILL": "git", "TEACHER_MODEL_NAME": "x/y", "DISTILL_ALPHA": 0}, "both 0"),
    ({"TOKENIZER": "teacher"}, "needs TEACHER_MODEL_NAME"),
    ({"DISTILL": "momentum", "EMA_DECAY": 0.9, "DISTILL_CAPTIONS": 0.5}, "needs a teacher of its own"),
    ({"DISTILL": "git", "TEACHER_MODEL_NAME": "x/y", "DISTILL_FEATURES": " = "}, "module of ours"),
])  # fmt: skip
def test_settings_that_cannot_be_taught_with_are_refused(changes, words):
    with pytest.raises(SettingsError, match=words):
        load_settings([], **{**TINY, **changes})


def test_a_teacher_that_is_none_is_refused_in_one_line(tmp_path):
    for name, words in {"nowhere": "there is no teacher", str(tmp_path): "no config.json"}.items():
        with pytest.raises(UserError, match=words) as caught:
            load_teacher(name, CPU)
        assert "\n" not in str(caught.value)


def test_as_many_likeliest_tokens_as_the_vocabulary_has_are_refused(made):
    state, train_set, val_set, _ = made
    state.settings = state.settings.replace(DISTILL_TOP_K=len(state.tokenizer))
    with pytest.raises(UserError, match="below the 300 tokens"):
        prepare_teaching(state, train_set, val_set)


def test_another_captioner_of_transformers_teaches_by_its_captions_alone(git, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    size = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    special = {"bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    text = {**size, **special, "vocab_size": len(WORDS), "encoder_hidden_size": 24, "max_position_embeddings": 64}
    config = BlipConfig(text_config=text, vision_config={**size, "image_size": 32, "patch_size": 16}, projection_dim=8)
    BlipForConditionalGeneration(config).save_pretrained(tmp_path / "blip")
    AutoProcessor.from_pretrained(git).tokenizer.save_pretrained(tmp_path / "blip")
    BlipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "blip")
    train(RUN_NAME="a", DISTILL="git", TEACHER_MODEL_NAME=tmp_path / "blip", DISTILL_ALPHA=0, DISTILL_CAPTIONS=0.5,
          DISTILL_BEAMS=2, NUM_EPOCHS=1)  # fmt: skip
    with pytest.raises(UserError, match="can give captions only"):
        train(RUN_NAME="b", DISTILL="git", TEACHER_MODEL_NAME=tmp_path / "blip", DISTILL_TOP_K=8)


@pytest.mark.parametrize("content", [
    '{"file": "a.jpg", "text": "a human caption"}', '{"image": "a.png", "caption": "a"}\n{"image": "b.png"', "5\n",
])  # fmt: skip
def test_captions_of_others_are_left_as_they_are(git, tmp_path, content):
    (tmp_path / "captions.jsonl").write_text(content)
    with pytest.raises(UserError, match="left as it is"):
        teacher_captions.main(["--teacher", str(git), "--images", str(tmp_path)])
    assert (tmp_path / "captions.jsonl").read_text() == content


def test_a_folder_without_captions_gets_the_teachers_and_is_a_dataset_then(git, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = prepare(tiny_settings())
    folder = tmp_path / "photos"
    shutil.copytree(data.image_dir, folder)
    (folder / "broken.png").write_bytes(b"no picture")
    teacher_captions.main(["--teacher", str(git), "--images", str(folder), "--beam", "2"])
    assert "left out     1 " in capsys.readouterr().out
    first = (folder / "captions.jsonl").read_text().splitlines()
    assert len(first) == 40 and set(json.loads(first[0])) == {"by", "image", "caption"}
    (folder / "captions.jsonl").write_text("\n".join(first[:30]) + "\n" + first[30][:50])  # a kill
    teacher_captions.main(["--teacher", str(git), "--images", str(folder), "--beam", "2"])
    assert sorted((folder / "captions.jsonl").read_text().splitlines()) == sorted(first)
    assert len(prepare(tiny_settings(DATASET="folder", RAW_DIR=str(folder))).captions) == 40


def test_a_stopped_file_goes_on_where_it_was(made):
    state, train_set, _, teacher = made
    lesson = make_lesson(teacher, train_set.captions, train_set.tokens, state.tokenizer)
    whole, stopped = (CacheFile(state.settings.data_path / "teacher" / name, {}) for name in ("whole", "stopped"))

    def produce(done, fail_at=None):
        for number, part in enumerate(produce_targets(teacher, lesson, train_set, state.settings, torch.float32, done)):
            if number == fail_at:
                raise KeyboardInterrupt
            yield part

    total = len(train_set.names)
    whole.make(total, 0, produce, "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cache_file.NOTE_EVERY", -1.0)
        with pytest.raises(KeyboardInterrupt):
            stopped.make(total, 0, lambda done: produce(done, 2), "")
    assert json.loads(stopped.path.with_suffix(".part.json").read_text())["done"] == 16
    stopped.make(total, 0, produce, "")
    order = [row for rows in train_set.captions_by_image() for row in rows]
    counts = [len(row) - 1 for row in train_set.tokens]
    batch = first_batch(train_set, state.settings)
    for a, b in zip(*(CachedTargets(cache.path, order, counts, 16)(batch) for cache in (whole, stopped))):
        torch.testing.assert_close(a, b)


def test_an_unprojected_token_is_lost_and_counted(git):
    """Mass of words that no training caption has goes to the rest bucket: kept + rest is one."""
    projection = Projection.count([(0, 1), (1, 2)], 5)
    kept = projection(torch.tensor([[0.5, 0.2, 0.3]])).sum()
    torch.testing.assert_close(kept, torch.tensor(0.7))


def test_features_of_both_are_pulled_together_and_the_projector_stays_out_of_the_captioner(tmp_path, git, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(RUN_NAME="taught", DISTILL="git", TEACHER_MODEL_NAME=git, DISTILL_TOP_K=16,
          DISTILL_FEATURES="projection=git.visual_projection", CHECKPOINT_EVERY_STEPS=2, KEEP_LAST_N=9)  # fmt: skip
    steps = sorted((tmp_path / "checkpoints" / "taught").glob("checkpoint_step_*"))
    first, last = load_weights(steps[0]), load_weights(steps[-1])
    projector = "training_only.feature_loss.projector.weight"
    assert first[projector].shape == (48, 16) and not torch.equal(first[projector], last[projector])
    for path in (tmp_path / "checkpoints" / "taught" / "best", steps[-1]):
        assert not any("training_only" in name for name in load_captioner(path).model.state_dict())


def test_modules_that_are_not_there_or_do_not_run_are_named(git, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for pair, words in {
        "projektion=git.visual_projection": "no module 'projektion'.*projection",
        "training_only=git.visual_projection": "'training_only' does not run",
        "projection=git.encoder.layer.1": "'git.encoder.layer.1' does not run",  # sees captions too
        "decoder.layers.0=git.visual_projection": "'decoder.layers.0' makes no feature map",
        "decoder.norm=git.visual_projection": "'decoder.norm' makes no feature map",
    }.items():
        with pytest.raises(UserError, match=words):
            make_all(git, DISTILL_FEATURES=pair)
