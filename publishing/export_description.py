"""What an exported folder says of itself: config.json and README.md, of a captioner its vocabulary too.

write_description(folder, tokenizer, config, pixels)
write_classifier_description(folder, config, pixels)
"""

import json
from pathlib import Path

from torch import Tensor

from basics.files import write_atomically
from basics.settings import Settings
from captioner.exported import IDS
from captioner.folder import Captioner
from classifier.folder import Classifier
from publishing.export_folder import CAPTIONER, CLASSIFIER, CLASSIFIER_PROGRAM, code_files
from tokenizer import Tokenizer

CAPTIONER_README = """# An exported image captioner

{usage}

A caption starts with token {start_id} and ends at token {end_id} or after {max_seq_len} tokens. {vocabulary} hold the
vocabulary, config.json says how a picture becomes pixels. The parts:

    encoder   pixels              -> keys and values of a picture, cross_key_0, cross_value_0, ... of {layers} layers
    prefill   tokens, cross       -> logits, then keys and values of a caption, new_key_0, new_value_0, ...
    step      tokens, cross, own  -> the same, one token longer; own is what prefill or the last step gave

pixels ({pixels}) float32, tokens (U, K) int64, logits (U, K, {vocab_size}), cross (U, H, S, D), own (U, K, H, T, D):
U pictures, K captions of each, T tokens so far, all free. A picture's keys and values serve all its captions. step
with T = 0 does what prefill does, but for a prompt: there prefill reads its last token in place of {start_id}.
Weights: {weights}{arithmetic}.
"""
EIGHT_BIT = """, and {parts} multiply 8-bit numbers, whose ranges were
seen on pictures: faster on CPUs made for that (VNNI), and not all captions are those of float32"""
EIGHT_BIT_CLASSIFIER = """, and 8-bit numbers are multiplied, whose ranges were
seen on pictures: faster on CPUs made for that (VNNI), and not all answers are those of float32"""
CAPTIONER_USAGE = {
    "onnx": """    pip install onnxruntime tokenizers numpy Pillow
    python caption_onnx.py photo.jpg

That is all it takes: neither PyTorch nor anything of the project that made this folder is needed beside it.""",
    "torch": """    encoder, prefill, step = (
        torch.export.load(f"{name}.pt2").module(check_guards=False) for name in ("encoder", "prefill", "step")
    )
    cross = encoder(pixels)
    logits, *own = prefill(tokens, cross)
    logits, *own = step(tokens, cross, own)

The guards are those of the example sizes; all sizes below were checked.""",
}
CLASSIFIER_README = """# An exported image classifier

{usage}

config.json has the {count:,} classes, in the order of the logits, and says how a picture becomes pixels.

    {file}   pixels ({pixels}) float32 -> logits (B, {count})

B pictures, as many as you like. The softmax of logits is the probabilities.
Weights: {weights}{arithmetic}.
"""
CLASSIFIER_USAGE = {
    "onnx": """    pip install onnxruntime numpy Pillow
    python classify_onnx.py photo.jpg --top-k 3

That is all it takes: neither PyTorch nor anything of the project that made this folder is needed beside it.""",
    "torch": f"""    logits = torch.export.load("{CLASSIFIER_PROGRAM}").module(check_guards=False)(pixels)

The guards are those of the example sizes; one picture and several were checked.""",
}


def export_config(captioner: Captioner, settings: Settings, preprocessing: dict, layers: int, form: str) -> dict:
    """The content of config.json, but for the kind of weights."""
    architecture, tokenizer = captioner.model.architecture, captioner.tokenizer
    return {
        "model_type": CAPTIONER,
        "form": form,
        "layers": layers,
        "vocab_size": architecture["decoder_vocab_size"],
        "max_seq_len": architecture["decoder_max_seq_len"],
        **{name: getattr(tokenizer, name) for name in IDS if hasattr(tokenizer, name)},
        "beam_size": settings.BEAM_SIZE,
        "length_penalty": settings.LENGTH_PENALTY,
        "preprocessing": preprocessing,
        "code": code_files("caption_onnx.py") if form == "onnx" else [],
    }


def write_description(folder: Path, tokenizer: Tokenizer, config: dict, pixels: Tensor) -> None:
    """config.json, the vocabulary's files and README.md."""
    sizes, vocabulary = ", ".join(["U", *map(str, pixels.shape[1:])]), tokenizer.files()
    parts = config.get("int8_arithmetic")
    arithmetic = EIGHT_BIT.format(parts=", ".join(parts)) if parts else ""
    names = {"usage": CAPTIONER_USAGE[config["form"]], "vocabulary": " and ".join(vocabulary), "arithmetic": arithmetic}
    readme = CAPTIONER_README.format(pixels=sizes, **names, **config)
    for name, text in {"config.json": json.dumps(config, indent=2), **vocabulary, "README.md": readme}.items():
        write_atomically(folder / name, text)


def classifier_config(classifier: Classifier, preprocessing: dict, form: str) -> dict:
    """The content of config.json, but for the kind of weights."""
    return {
        "model_type": CLASSIFIER,
        "task": "classify",
        "form": form,
        "classes": classifier.classes,
        "preprocessing": preprocessing,
        "code": code_files("classify_onnx.py") if form == "onnx" else [],
    }


def write_classifier_description(folder: Path, config: dict, file: str, pixels: Tensor) -> None:
    """config.json and README.md."""
    sizes = ", ".join(["B", *map(str, pixels.shape[1:])])
    arithmetic = EIGHT_BIT_CLASSIFIER if config.get("int8_arithmetic") else ""
    readme = CLASSIFIER_README.format(
        usage=CLASSIFIER_USAGE[config["form"]],
        count=len(config["classes"]),
        file=file,
        pixels=sizes,
        weights=config["weights"],
        arithmetic=arithmetic,
    )
    for name, text in {"config.json": json.dumps(config, indent=2), "README.md": readme}.items():
        write_atomically(folder / name, text)
