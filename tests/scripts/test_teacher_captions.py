"""teacher_captions.py: a dataset where there were no captions; and a teacher that has nothing else to give."""

import json
import shutil

import pytest
from git_folders import WORDS
from taught import train
from tiny import tiny_settings, tiny_tokenizer
from transformers import AutoProcessor, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor

import teacher_captions
from basics.errors import UserError
from sources.captions import Captions
from sources.prepare import prepare


def test_a_folder_that_has_captions_in_another_form_is_left_alone(git, tmp_path):
    (tmp_path / "captions.csv").write_text("image,caption\n")
    with pytest.raises(UserError, match="has captions already, captions.csv, and of two captions files one is ignored"):
        teacher_captions.main(["--teacher", str(git), "--images", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["captions.csv"]


def test_another_captioner_of_transformers_teaches_by_its_captions_alone(git, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    size = {
        "hidden_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "initializer_range": 2.0,
    }
    special = {"bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    text = {**size, **special, "vocab_size": len(WORDS), "encoder_hidden_size": 24, "max_position_embeddings": 64}
    config = BlipConfig(text_config=text, vision_config={**size, "image_size": 32, "patch_size": 16}, projection_dim=8)
    BlipForConditionalGeneration(config).save_pretrained(tmp_path / "blip")
    AutoProcessor.from_pretrained(git).tokenizer.save_pretrained(tmp_path / "blip")
    BlipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "blip")
    train(
        RUN_NAME="a",
        DISTILL="teacher",
        TEACHER_MODEL_NAME=tmp_path / "blip",
        DISTILL_ALPHA=0,
        DISTILL_CAPTIONS=0.5,
        DISTILL_TEMPERATURE=2,
        DISTILL_BEAMS=2,
        NUM_EPOCHS=1,
    )
    with pytest.raises(UserError, match="can give captions only"):
        train(RUN_NAME="b", DISTILL="teacher", TEACHER_MODEL_NAME=tmp_path / "blip", DISTILL_TOP_K=8)


@pytest.mark.parametrize(
    "content",
    ['{"file": "a.jpg", "text": "a human caption"}', '{"image": "a.png", "caption": "a"}\n{"image": "b.png"', "5\n"],
)
def test_captions_of_others_are_left_as_they_are(git, tmp_path, content):
    (tmp_path / "captions.jsonl").write_text(content)
    with pytest.raises(UserError, match="left as it is"):
        teacher_captions.main(["--teacher", str(git), "--images", str(tmp_path)])
    assert (tmp_path / "captions.jsonl").read_text() == content


def test_a_folder_without_captions_gets_the_teachers_and_is_a_dataset_then(git, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = prepare(tiny_settings(), Captions(lambda _: tiny_tokenizer()))
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
    taught = tiny_settings(DATASET="folder", RAW_DIR=str(folder))
    assert len(prepare(taught, Captions(lambda _: tiny_tokenizer())).captions) == 40
