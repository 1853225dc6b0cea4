"""A teacher's predictions in our vocabulary: aligned, cached as made live, never stale."""

import copy
import json
import shutil

import pytest
import torch
from taught import CPU, first_batch, make_all, train
from tiny import tiny_settings, tiny_tokenizer
from transformers import AutoProcessor

from basics import cache_file
from basics.cache_file import CacheFile
from basics.errors import UserError
from captioner.exported import read_tokenizer
from captioner.folder import load_captioner
from distillation.alignment import Projection
from distillation.criteria import DistillLoss
from distillation.soft_targets import CachedSoftTargets, LiveSoftTargets, align_captions, produce_soft_targets
from distillation.teacher import GenerativeImageTextTeacher, fingerprint, load_teacher
from sources.captions import Captions
from sources.images import load_image
from sources.prepare import prepare


def test_the_teachers_pictures_are_prepared_as_its_processor_does_it(git, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture = next((prepare(tiny_settings(), Captions(lambda captions: tiny_tokenizer())).image_dir).glob("*.png"))
    expected = AutoProcessor.from_pretrained(git)(images=load_image(picture), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(load_teacher(str(git), CPU).pixels([load_image(picture)]), expected)


def test_cached_targets_are_those_made_live_whatever_the_order(made):
    train_set, teacher = made.train_set, made.teacher
    aligned = align_captions(teacher, train_set.captions, train_set.tokens, made.tokenizer)
    cached, _ = made.soft_targets()
    live = LiveSoftTargets(teacher, aligned, train_set, made.settings)
    train_set.view = lambda number: 0  # live, the teacher sees the crop of the epoch
    for epoch in (0, 1):
        batch = first_batch(train_set, made.settings, epoch)
        (ids, probs, supervised), (others, mass, also) = cached(batch), live(batch)
        assert len(ids) == int(batch["target_mask"].sum())
        whole, again = (torch.zeros(len(ids), 300).scatter(1, i, p) for i, p in ((ids, probs), (others, mass)))
        torch.testing.assert_close(whole, again, rtol=1e-3, atol=2e-4)
        assert torch.equal(supervised, also) and 0.3 < supervised.mean() <= 1


def test_a_teacher_that_runs_along_sees_the_crops_of_the_student_and_stays_as_it_is(git, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = make_all(git, AUGMENT=True, GROUP_CAPTIONS=False)
    train_set, teacher = made.train_set, made.teacher
    aligned = align_captions(teacher, train_set.captions, train_set.tokens, made.tokenizer)
    live, before = (
        LiveSoftTargets(teacher, aligned, train_set, made.settings),
        copy.deepcopy(teacher.model.state_dict()),
    )
    seen = []
    monkeypatch.setattr(
        teacher, "pixels", lambda images: seen.extend(images) or GenerativeImageTextTeacher.pixels(teacher, images)
    )
    batch = first_batch(train_set, made.settings, epoch=3)
    assert "image_index" in batch
    criterion = DistillLoss(live, made.settings)
    loss, count = criterion(made.model.train(), batch)
    (loss / count).backward()
    numbers = batch["image_numbers"].tolist()
    assert all(image.tobytes() == train_set.pictures.image(n, 4).tobytes() for image, n in zip(seen, numbers))
    assert all(torch.equal(value, before[name]) for name, value in teacher.model.state_dict().items())
    assert all(parameter.grad is not None for parameter in made.model.parameters())


def test_predictions_are_the_naive_ones_caption_by_caption(made):
    train_set, teacher = made.train_set, made.teacher
    aligned = align_captions(teacher, train_set.captions, train_set.tokens, made.tokenizer)
    batch = first_batch(train_set, made.settings)
    found = made.soft_targets()[0](batch)
    caption = int(batch["caption_numbers"][0])
    pixels = teacher.pixels([train_set.pictures.image(train_set.image_of(caption), 0)])
    tokens = torch.tensor([aligned.rows[caption]])
    with torch.no_grad():
        logits = teacher.model(input_ids=tokens, pixel_values=pixels, use_cache=False).logits[0, -tokens.shape[1] :]
    for number, place in enumerate(aligned.places[caption]):
        if place >= 0:
            expected = aligned.projection(logits[place].softmax(-1)[None])[0]
            torch.testing.assert_close(found[1][number], expected[found[0][number]], rtol=1e-2, atol=1e-3)


def test_one_vocabulary_needs_no_projection_and_leaves_no_target_out(tmp_path, monkeypatch, git):
    monkeypatch.chdir(tmp_path)
    train(RUN_NAME="one", NUM_EPOCHS=1)
    best = tmp_path / "checkpoints" / "one" / "best"
    made = make_all(best)
    train_set, teacher = made.train_set, made.teacher
    aligned = align_captions(teacher, train_set.captions, train_set.tokens, made.tokenizer)
    assert aligned.projection.entries is None and aligned.supervised == 1
    targets = made.soft_targets()[0]
    batch = first_batch(train_set, made.settings)
    ids, probs, _ = targets(batch)
    student_view = train_set.pictures.read(batch["image_numbers"].tolist(), [0] * len(batch["image_numbers"]))
    with torch.no_grad():
        expected = teacher.model(
            student_view, batch["decoder_input_tokens"], batch.get("image_index"), batch["target_mask"]
        ).softmax(-1)
    torch.testing.assert_close(probs, expected.gather(1, ids), rtol=1e-3, atol=1e-4)


def test_a_student_with_the_teachers_wordpieces_learns_its_whole_distribution(git, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made = make_all(git, TOKENIZER="teacher", DISTILL_TEMPERATURE=2.0, DISTILL_TOP_K=8)
    train_set, teacher = made.train_set, made.teacher
    assert all(made.tokenizer.encode(text) == teacher.encode([text])[0][0] for text in train_set.captions)
    aligned = align_captions(teacher, train_set.captions, train_set.tokens, made.tokenizer)
    assert aligned.projection.entries is None and aligned.supervised == 1
    made.soft_targets()
    train(RUN_NAME="same", DISTILL="teacher", TEACHER_MODEL_NAME=git, TOKENIZER="teacher", DISTILL_TOP_K=8)
    loaded = load_captioner(tmp_path / "checkpoints" / "same" / "best").tokenizer
    assert loaded.hash == made.tokenizer.hash
    folder = tmp_path / "checkpoints" / "same" / "best"
    ids = made.tokenizer.encode("a large red circle")
    exported = read_tokenizer(folder / "vocab.json", folder / "merges.txt")
    assert exported.decode(ids[1:-1]) == loaded.decode(ids) == "a large red circle"


def test_a_cut_caption_is_not_taught_where_it_was_cut(git, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = make_all(git, MAX_SEQ_LEN=6)
    train_set, teacher = made.train_set, made.teacher
    aligned = align_captions(teacher, train_set.captions, train_set.tokens, made.tokenizer)
    assert [len(row) for row in aligned.places] == [len(row) - 1 for row in train_set.tokens]
    cut = [len(made.tokenizer.encode(text)) > 6 for text in train_set.captions]
    assert any(cut) and all(row[-1] == -1 for row, was_cut in zip(aligned.places, cut) if was_cut)


def test_a_teacher_of_the_same_length_and_vocabulary_teaches_no_end_where_both_cut(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(RUN_NAME="short", NUM_EPOCHS=1, MAX_SEQ_LEN=6)
    made = make_all(tmp_path / "checkpoints" / "short" / "best", MAX_SEQ_LEN=6)
    train_set, teacher = made.train_set, made.teacher
    aligned = align_captions(teacher, train_set.captions, train_set.tokens, made.tokenizer)
    for text, row in zip(train_set.captions, aligned.places):
        whole = len(made.tokenizer.encode(text))
        assert row == list(range(whole - 1)) if whole <= 6 else row == [0, 1, 2, 3, -1]
    longer = align_captions(
        teacher,
        ["a large red circle left of a large blue square"],
        [made.tokenizer.encode("a large red circle left of a large blue square")],
        made.tokenizer,
    )
    assert longer.places[0][:5] == [0, 1, 2, 3, 4] and set(longer.places[0][5:]) == {-1}


def test_a_special_token_written_in_a_caption_teaches_nothing_wrong(git):
    teacher = load_teacher(str(git), CPU)
    text = "a red [SEP] circle"
    ours = teacher.caption_tokenizer
    assert set(align_captions(teacher, [text], [ours.encode(text)], ours).places[0]) == {-1}


def test_another_teacher_vocabulary_or_number_of_tokens_makes_another_file(made, git, tmp_path):
    folder = made.settings.data_path / "teacher"
    made.soft_targets()
    assert len(list(folder.glob("targets-*.bin"))) == 1
    made.soft_targets(DISTILL_TOP_K=8)
    other = tmp_path / "other"
    shutil.copytree(git, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-6}))
    assert fingerprint(other) != fingerprint(git)
    made.soft_targets(TEACHER_MODEL_NAME=str(other))
    references = made.train_set.references
    references[0], references[1] = references[1], references[0]
    made.soft_targets()
    made.val_set.references[0] = ["a small red circle"] * 5
    made.soft_targets()
    made.soft_targets(dtype=torch.bfloat16)
    made.tokenizer.vocab = made.tokenizer.vocab | {"more": 300}
    made.soft_targets()
    assert len(list(folder.glob("targets-*.bin"))) == 7


def test_predictions_under_the_name_of_others_are_refused(made):
    made.soft_targets()
    (path,) = (made.settings.data_path / "teacher").glob("targets-*.bin")
    made.soft_targets(DISTILL_TOP_K=8)
    (other,) = set((made.settings.data_path / "teacher").glob("targets-*.bin")) - {path}
    for suffix in (".bin", ".json"):
        shutil.copy(path.with_suffix(suffix), other.with_suffix(suffix))
    with pytest.raises(UserError, match="made from other inputs"):
        made.soft_targets(DISTILL_TOP_K=8)


def test_predictions_from_the_disk_need_no_teacher_loaded(made, monkeypatch):
    _, findings = made.soft_targets()
    monkeypatch.setattr(GenerativeImageTextTeacher, "__init__", lambda *_: pytest.fail("the teacher was loaded"))
    assert made.soft_targets()[1] == findings


def test_temperature_is_refused_between_two_vocabularies(git, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="DISTILL_TEMPERATURE must be 1"):
        make_all(git, DISTILL_TEMPERATURE=2.0).soft_targets()


def test_as_many_likeliest_tokens_as_the_vocabulary_has_are_refused(made):
    with pytest.raises(UserError, match="below the 300 tokens"):
        made.work(DISTILL_TOP_K=len(made.tokenizer))


def test_a_stopped_file_goes_on_where_it_was(made):
    train_set, teacher = made.train_set, made.teacher
    aligned = align_captions(teacher, train_set.captions, train_set.tokens, made.tokenizer)
    whole, stopped = (CacheFile(made.settings.data_path / "teacher" / name, {}) for name in ("whole", "stopped"))

    def produce(done, fail_at=None):
        pictures = range(done, len(train_set.pictures))
        for number, part in enumerate(
            produce_soft_targets(teacher, aligned, train_set, made.settings, torch.float32, pictures)
        ):
            if number == fail_at:
                raise KeyboardInterrupt
            yield part

    total = len(train_set.pictures)
    whole.make(total, 0, produce, "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache_file, "NOTE_EVERY", -1.0)
        with pytest.raises(KeyboardInterrupt):
            stopped.make(total, 0, lambda done: produce(done, 2), "")
    assert json.loads(stopped.path.with_suffix(".part.json").read_text())["done"] == 16
    stopped.make(total, 0, produce, "")
    order = [row for rows in train_set.captions_by_image() for row in rows]
    counts = [len(row) - 1 for row in train_set.tokens]
    batch = first_batch(train_set, made.settings)
    for a, b in zip(*(CachedSoftTargets(cache.path, order, counts, 16)(batch) for cache in (whole, stopped))):
        torch.testing.assert_close(a, b)


def test_an_unprojected_token_is_lost_and_counted(git):
    """Mass of words that no training caption has goes to the rest bucket: kept + rest is one."""
    projection = Projection.count([(0, 1), (1, 2)], 5)
    kept = projection(torch.tensor([[0.5, 0.2, 0.3]])).sum()
    torch.testing.assert_close(kept, torch.tensor(0.7))
