"""A teacher's predictions in our vocabulary: aligned, cached as made live, never stale."""

import copy
import json
import shutil

import pytest
import torch
from taught import CPU, first_batch, make_all, train
from tiny import tiny_settings
from transformers import AutoProcessor

from basics.cache_file import CacheFile
from basics.errors import UserError
from captioner.exported import read_tokenizer
from captioner.folder import load_captioner
from distillation.alignment import Projection
from distillation.criteria import DistillLoss
from distillation.setup import prepare_teaching
from distillation.soft_targets import CachedTargets, LiveTargets, make_lesson, produce_targets
from distillation.teacher import GenerativeImageTextTeacher, fingerprint, load_teacher
from prepare_dataset import prepare
from sources.images import load_image


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
    monkeypatch.setattr(
        teacher, "pixels", lambda images: seen.extend(images) or GenerativeImageTextTeacher.pixels(teacher, images)
    )
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
    longer = make_lesson(
        teacher,
        ["a large red circle left of a large blue square"],
        [state.tokenizer.encode("a large red circle left of a large blue square")],
        state.tokenizer,
    )
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


def test_as_many_likeliest_tokens_as_the_vocabulary_has_are_refused(made):
    state, train_set, val_set, _ = made
    state.settings = state.settings.replace(DISTILL_TOP_K=len(state.tokenizer))
    with pytest.raises(UserError, match="below the 300 tokens"):
        prepare_teaching(state, train_set, val_set)


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
