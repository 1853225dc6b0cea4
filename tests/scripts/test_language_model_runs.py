"""Runs with a language model as decoder: what they save needs nothing else, and goes on to the bit."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from in_process import call, train
from language_models import language_model, save_tokenizer, with_language_model
from tiny import load_weights, same_weights, save_tiny_vit
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, ResNetConfig, T5Config

import evaluate
import inference
from captioner.folder import load_captioner
from networks.decoding_options import DecodingOptions

RUN = {
    "RUN_NAME": "a",
    "NUM_EPOCHS": 1,
    "SCST_EPOCHS": 1,
    "GROUP_CAPTIONS": "true",
    "BEST_METRIC": "cider",
    "CHECKPOINT_EVERY_STEPS": 1,
    "KEEP_LAST_N": 20,
    "MAX_SEQ_LEN": 20,
}
WHOLE = {"EMA_DECAY": 0.9, "ENCODER_MODEL_NAME": "vit", "ENCODER_TRAINABLE": "none", "CACHE_FEATURES": "true"}
ADAPTED = {"LORA_RANK": 2, "DECODER_FROZEN_PRECISION": "bf16", "PRECISION": "bf16", "PREFIX_TOKENS": 2}
LAST = "checkpoint_step_00000010.pt"


TWICE = {"LORA_RANK": 2, "GRADIENT_CHECKPOINTING": "true"}
CASES = [("gpt2", WHOLE, [3, 8]), ("llama", ADAPTED, [3]), ("gpt2-cross", TWICE, [3])]


@pytest.mark.parametrize("family, changes, steps", CASES, ids=["whole", "adapted", "cross"])
def test_a_run_is_saved_whole_and_goes_on_to_the_bit(tmp_path, family, changes, steps):
    """From the middle of an epoch, averaged weights, cached features and sampled captions among it."""
    save_tiny_vit(tmp_path / "vit")
    shutil.copytree(with_language_model(family)["DECODER_MODEL_NAME"], tmp_path / "lm")
    settings = {**with_language_model(family), **RUN, **changes, "DECODER_MODEL_NAME": "./lm"}
    assert train(tmp_path, **settings).returncode == 0
    stored = {weight.dtype for name, weight in load_weights(tmp_path / "checkpoints/a" / LAST).items() if "lm." in name}
    assert (torch.bfloat16 in stored) == ("PRECISION" in changes) and torch.float32 in stored
    shutil.rmtree(tmp_path / "lm")  # from here on nobody needs it
    whole, again = (tmp_path / "checkpoints" / name for name in ("a", "b"))
    for step in steps:
        start = whole / f"checkpoint_step_{step:08}.pt"
        result = train(tmp_path, "--resume-checkpoint-path", start, **{**settings, "RUN_NAME": "b"})
        assert result.returncode == 0
        assert same_weights(load_weights(whole / LAST), load_weights(again / LAST))
        shutil.rmtree(again)
    check_captioner(tmp_path, whole)


def check_captioner(folder: Path, run: Path) -> None:
    picture = next((folder / "data/shapes/images").glob("*.png"))
    best, options = load_captioner(run / "best"), DecodingOptions(20, beam_size=3)
    checkpoint = load_captioner(next(run.glob(f"checkpoint_epoch_{best.config['epoch']}_*.pt")))
    assert best.tokenizer.hash == checkpoint.tokenizer.hash == best.config["tokenizer_hash"]
    assert best.caption(picture, options) == checkpoint.caption(picture, options)
    assert AutoTokenizer.from_pretrained(run / "best").eos_token == "<|endoftext|>"
    assert call(inference.main, picture, "--checkpoint", run / "best", cwd=folder).returncode == 0
    assert call(evaluate.main, "--checkpoint", run / "best", cwd=folder).returncode == 0


def test_a_captioner_with_a_language_model_is_tuned_further(tmp_path):
    """Its adapters are merged in best/, which captions as the checkpoint that still has them."""
    settings = {**with_language_model("gpt2"), "RUN_NAME": "a", "NUM_EPOCHS": 1, "LORA_RANK": 2, "LORA_MERGE": "true"}
    assert train(tmp_path, **settings).returncode == 0
    picture = next((tmp_path / "data/shapes/images").glob("*.png"))
    checkpoint = next((tmp_path / "checkpoints/a").glob("checkpoint_epoch_*.pt"))
    captioners = [load_captioner(path) for path in (tmp_path / "checkpoints/a/best", checkpoint)]
    assert ["lora" in "".join(each.model.state_dict()) for each in captioners] == [False, True]
    (merged,), (with_adapters,) = (each.caption(picture) for each in captioners)
    assert merged[0] == with_adapters[0] and merged[1].score == pytest.approx(with_adapters[1].score, abs=1e-4)
    start = {
        "RUN_NAME": "b",
        "FINETUNE_FROM": "checkpoints/a/best",
        "LEARNING_RATE": 1e-9,
        "DECODER_MODEL_NAME": "./gone",
    }
    result = train(tmp_path, **{**settings, **start})
    assert result.returncode == 0 and "DECODER_MODEL_NAME stays" in result.stdout
    weights = [load_captioner(tmp_path / "checkpoints" / name / "best").model.state_dict() for name in "ab"]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=0, atol=1e-6)


def bert(folder):
    BertForMaskedLM(
        BertConfig(vocab_size=320, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    ).save_pretrained(folder)


def t5(folder):
    save_tokenizer(folder)
    T5Config(vocab_size=320, d_model=16, num_layers=1).save_pretrained(folder)


def resnet(folder):
    save_tokenizer(folder)
    ResNetConfig().save_pretrained(folder)


def without_end(folder):
    shutil.copytree(language_model("gpt2"), folder, dirs_exist_ok=True)
    save_tokenizer(folder, eos_token=None)


def larger_vocabulary(folder):
    shutil.copytree(language_model("gpt2"), folder, dirs_exist_ok=True)
    bpe = AutoTokenizer.from_pretrained(folder)
    bpe.add_tokens(["<1>", "<2>", "<3>"])
    bpe.save_pretrained(folder)


def without_vocabulary(folder):
    shutil.copytree(language_model("gpt2"), folder, dirs_exist_ok=True)
    for path in folder.glob("tokenizer*"):
        path.unlink()


def of_falcon(folder):
    shutil.copytree(language_model("falcon"), folder, dirs_exist_ok=True)


def enormous(folder):
    shutil.copytree(language_model("llama"), folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_size": 2**15, "intermediate_size": 2**17, "num_hidden_layers": 200, "head_dim": 2**14}
    (folder / "config.json").write_text(json.dumps(config))


BAD = [
    (bert, {}, "no causal language model but bert"),
    (t5, {}, "no causal language model but t5"),
    (without_end, {}, "has no end token"),
    (larger_vocabulary, {}, "303 tokens, its model 300"),
    (without_vocabulary, {}, "tokenizer"),
    (of_falcon, {"DECODER": "language_model_cross"}, "is a falcon, to which no cross-attention can be added"),
    (enormous, {}, "billion parameters, which take"),
    (None, {"DECODER_MODEL_NAME": "none"}, "needs DECODER_MODEL_NAME"),
    (None, {"DECODER_MODEL_NAME": "./nowhere"}, "is no folder here"),
    (None, {"DECODER_TRAINABLE": 3}, "DECODER_TRAINABLE is 3, but this language model has 2 blocks"),
    (None, {"LORA_RANK": 2, "LORA_TARGETS": "c_attn,q_prj"}, "LORA_TARGETS q_prj is no layer"),
    (None, {"LORA_RANK": 2, "LORA_TARGETS": "lm_head"}, "has its weight in common with another layer"),
    (resnet, {}, "no causal language model but resnet"),
    (None, {"DECODER_FROZEN_PRECISION": "bf16"}, 'needs PRECISION "bf16"'),
]


@pytest.mark.parametrize("make, changes, message", BAD, ids=[message for *_, message in BAD])
def test_what_cannot_work_is_one_line_before_data_are_prepared(tmp_path, make, changes, message):
    settings = {**with_language_model("gpt2"), **changes}
    if make:
        (tmp_path / "lm").mkdir()
        make(tmp_path / "lm")
        settings["DECODER_MODEL_NAME"] = "./lm"
    result = train(tmp_path, **settings)
    lines = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert result.returncode == 1 and len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "data").exists()


def test_a_picture_and_a_caption_must_fit_into_the_positions(tmp_path):
    result = train(tmp_path, **with_language_model("gpt2", MAX_SEQ_LEN=60))
    assert result.returncode == 1 and "lower PREFIX_TOKENS or MAX_SEQ_LEN" in result.stderr
