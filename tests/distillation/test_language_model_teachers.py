"""A captioner with a language model teaches ours, lends it its vocabulary, and learns from it."""

from in_process import train
from language_models import with_language_model
from tiny import TINY

from captioner.folder import load_captioner

TAUGHT = {"NUM_EPOCHS": 1, "DISTILL": "teacher", "DISTILL_TOP_K": 16}


def test_language_models_teach_and_learn(tmp_path):
    assert train(tmp_path, **with_language_model("gpt2", RUN_NAME="a", NUM_EPOCHS=1)).returncode == 0
    lent = {**TINY, **TAUGHT, "RUN_NAME": "b", "TEACHER_MODEL_NAME": "checkpoints/a/best", "TOKENIZER": "teacher"}
    assert train(tmp_path, **lent).returncode == 0
    learning = with_language_model("llama", RUN_NAME="c", TEACHER_MODEL_NAME="checkpoints/b/best", **TAUGHT)
    assert train(tmp_path, **learning).returncode == 0
    teacher, ours = (load_captioner(tmp_path / f"checkpoints/{name}/best") for name in "ab")
    assert ours.tokenizer.hash == teacher.tokenizer.hash and ours.model.architecture["decoder"] == "transformer"
