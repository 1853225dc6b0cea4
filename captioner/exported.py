"""A captioner that export.py wrote, in use without PyTorch: preprocessing, greedy and beam search in numpy.

    captioner = open_onnx("exported/")                           # onnxruntime, on the CPU
    captioner.caption_images([load_image("photo.jpg")], DecodingOptions(beam_size=3))    # [[(text, Caption), ...]]

Preprocessing is what the folder's config.json says, the searches are those of networks/search.py once more. Every
exported folder has a copy of this file and of what it imports: neither torch nor transformers may be among that.
Shapes: U pictures still in work (who is done leaves the batch), K beams of each, T tokens so far, V vocabulary.
"""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from basics.stored import Number, check, json_of
from captioner.exported_parts import (
    PREPROCESSING,
    Arrays,
    PartFunction,
    blank_pixels,
    check_exported,
    largest,
    log_softmax,
    open_session,
    opening,
    pixels_of,
    run_session,
)
from networks.caption import Caption, Captioned, to_caption
from networks.decoding_options import DecodingOptions

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ONNX_PARTS = ("encoder.onnx", "prefill.onnx", "step.onnx")
OUR_VOCABULARY, LANGUAGE_VOCABULARY = ("vocab.json", "merges.txt"), ("tokenizer.json",)
IDS = ("pad_id", "start_id", "end_id", "unk_id")  # a language model has no unknown words
NO_TEXT = ("pad_id", "start_id", "unk_id")  # of our vocabularies; captions end before the end
MINUS_INFINITY = -np.inf
ID = Number(int, 0, 2**31)
CONFIG = {
    **dict.fromkeys(IDS[:3], ID),
    "unk_id?": ID,
    "max_seq_len": Number(int, 2, 2**20),
    "beam_size": Number(int, 1, 2**10),
    "length_penalty": Number(float, 0, 100),
    "int8_arithmetic?": [str],
    "preprocessing": PREPROCESSING,
}


def read_config(folder: Path) -> dict:
    """What config.json says. Raises ValueError."""
    config = json_of(folder / "config.json")
    check(config, CONFIG, "config.json")
    return config


def vocabulary_files(folder: Path) -> tuple[str, ...]:
    """A language model's, or ours."""
    return LANGUAGE_VOCABULARY if (folder / LANGUAGE_VOCABULARY[0]).is_file() else OUR_VOCABULARY


def read_vocabulary(folder: Path, config: dict) -> tuple["Tokenizer", list[int]]:
    """What turns ids into text, and the ids it must not see: a language model's knows itself which are special."""
    from tokenizers import Tokenizer  # said to be missing in one line, by check_exported()

    names = vocabulary_files(folder)
    if names == LANGUAGE_VOCABULARY:
        return Tokenizer.from_file(str(folder / names[0])), []
    return read_tokenizer(*(folder / name for name in names)), [config[name] for name in NO_TEXT if name in config]


def read_tokenizer(vocab: Path, merges: Path) -> "Tokenizer":
    """That of our vocabularies: byte-level BPE, or the WordPieces of a teacher, which have no merges."""
    from tokenizers import Tokenizer, decoders, models  # as above

    if merges.read_text(encoding="utf-8").startswith("#version: wordpiece"):
        tokenizer = Tokenizer(models.WordPiece(json.loads(vocab.read_text(encoding="utf-8")), unk_token="<unk>"))
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer
    tokenizer = Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


class ExportedCaptioner:
    """An exported folder in use: RGB pictures -> captions of each; open_onnx() makes one.

    encoder, prefill and step take and give flat lists of arrays, in the order the folder's README.md has them.
    """

    def __init__(self, folder: Path, encoder: PartFunction, prefill: PartFunction, step: PartFunction):
        self.encoder, self.prefill, self.step = encoder, prefill, step
        self.config = read_config(folder)
        self.start_id, self.end_id, self.max_seq_len, self.preprocessing = (
            self.config[name] for name in ("start_id", "end_id", "max_seq_len", "preprocessing")
        )
        beam, length_penalty = self.config["beam_size"], self.config["length_penalty"]
        self.own_options = DecodingOptions(self.max_seq_len, beam, length_penalty=length_penalty)
        self.tokenizer, self.special = read_vocabulary(folder, self.config)

    def caption_images(self, images: Iterable[Image.Image], options: DecodingOptions) -> list[list[Captioned]]:
        """RGB pictures -> for each its captions, best first; options without sampling."""
        rows = self.search(np.stack([pixels_of(image, self.preprocessing) for image in images]), options)
        return [[(self.text(caption.tokens), caption) for caption in row] for row in rows]

    def search(self, pixels: np.ndarray, options: DecodingOptions) -> list[list[Caption]]:
        """Pixels (U, 3, H, W) -> for each its captions, best first."""
        tokens, scores = (
            greedy_in_numpy(self, pixels) if options.beam_size == 1 else beams_in_numpy(self, pixels, options)
        )
        return [
            [to_caption(t, s, self.end_id) for t, s in zip(rows, row_scores)]
            for rows, row_scores in zip(tokens.tolist(), scores.tolist())
        ]

    def text(self, tokens: list[int]) -> str:
        """The caption on one line."""
        return " ".join(self.tokenizer.decode([i for i in tokens if i not in self.special]).split())

    def start(self, pixels: np.ndarray) -> tuple[np.ndarray, Arrays, Arrays]:
        """Pixels (U, 3, H, W) -> logits (U, 1, V) after <s>, the pictures' keys and values, the captions' own."""
        cross = self.encoder(pixels)
        logits, *own = self.prefill(np.full((len(pixels), 1), self.start_id), *cross)
        return logits, cross, own

    def read(self, tokens: np.ndarray, cross: Arrays, own: Arrays) -> tuple[np.ndarray, Arrays]:
        """One more token (U, K) of each caption -> logits (U, K, V) and the longer keys and values."""
        logits, *own = self.step(tokens, *cross, *own)
        return logits, own


def open_onnx(folder: Path | str) -> ExportedCaptioner:
    """What export.py --format onnx wrote, on the CPU. Raises UserError."""
    folder = Path(folder)
    check_exported(folder, ("config.json", *vocabulary_files(folder), *ONNX_PARTS), "caption", ["tokenizers"])
    with opening(folder):
        eight_bit = read_config(folder).get("int8_arithmetic", [])
        sessions = [open_session(folder / name, Path(name).stem in eight_bit) for name in ONNX_PARTS]
        captioner = ExportedCaptioner(folder, *(partial(run_session, session) for session in sessions))
        captioner.start(blank_pixels(captioner.preprocessing))  # or it fails at work
    return captioner


def greedy_in_numpy(model: ExportedCaptioner, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest token each time -> tokens (U, 1, T) after <s>, mean log-probabilities (U, 1)."""
    last = model.max_seq_len - 1
    tokens = np.full((len(pixels), last), model.end_id)
    total, length = np.zeros(len(pixels), np.float32), np.zeros(len(pixels), np.float32)
    alive = np.arange(len(pixels))  # the pictures still in work
    logits, cross, own = model.start(pixels)
    for t in range(last):
        if t > 0:
            logits, own = model.read(tokens[alive, t - 1][:, None], cross, own)
        chosen = logits[:, 0].argmax(-1)
        tokens[alive, t] = chosen
        total[alive] += np.take_along_axis(log_softmax(logits[:, 0]), chosen[:, None], 1)[:, 0]
        length[alive] += 1
        go_on = chosen != model.end_id
        if not go_on.any():
            break
        alive, cross, own = alive[go_on], keep_rows(cross, go_on), keep_rows(own, go_on)
    return tokens[:, None], (total / length)[:, None]


def keep_rows(arrays: Arrays, rows: np.ndarray) -> Arrays:
    """The rows (U,) that are true; nothing is copied while all are."""
    return arrays if rows.all() else [array[rows] for array in arrays]


def beams_in_numpy(
    model: ExportedCaptioner, pixels: np.ndarray, options: DecodingOptions
) -> tuple[np.ndarray, np.ndarray]:
    """The beam search of networks/search.py -> the num_captions best, tokens (U, N, T) after <s> and scores (U, N)."""
    U, K, N, last = len(pixels), options.beam_size, options.num_captions, model.max_seq_len - 1
    best, best_scores = np.full((U, N, last), model.end_id), np.full((U, N), MINUS_INFINITY, np.float32)
    alive = np.arange(U)
    logits, cross, own = model.start(pixels)
    own = [np.repeat(array, K, axis=1) for array in own]  # beams begin alike; all but the first wait
    tokens = np.zeros((U, K, 0), np.int64)
    live = np.full((U, K), MINUS_INFINITY, np.float32)
    live[:, 0] = 0
    ended, ended_scores = np.full((U, K, last), model.end_id), np.full((U, K), MINUS_INFINITY, np.float32)
    for t in range(last):
        if t > 0:
            logits, own = model.read(tokens[:, :, -1], cross, own)
        log_probs = live[:, :, None] + log_softmax(logits)  # (U, K, V)

        # beams that end here join the pool of the K best
        end_scores = log_probs[:, :, model.end_id] / np.float32((t + 1) ** options.length_penalty)
        paths = np.pad(tokens, ((0, 0), (0, 0), (0, last - t)), constant_values=model.end_id)
        ended_scores, ended = np.concatenate([ended_scores, end_scores], 1), np.concatenate([ended, paths], 1)
        pool = largest(ended_scores, K)
        ended_scores, ended = np.take_along_axis(ended_scores, pool, 1), pick_beams(ended, pool)

        # the best continuations live on
        log_probs[:, :, model.end_id] = MINUS_INFINITY
        flat = log_probs.reshape(len(alive), -1)
        continued = largest(flat, K)
        live = np.take_along_axis(flat, continued, 1)
        parent, chosen = np.divmod(continued, log_probs.shape[-1])  # (U, K)
        tokens = np.concatenate([pick_beams(tokens, parent), chosen[:, :, None]], 2)

        # pictures whose pool no live beam can still enter are done, and at the end all
        reachable = live / np.float32(last**options.length_penalty)
        done = (ended_scores[:, -1] >= reachable[:, 0]) | (t == last - 1)
        unended = np.pad(tokens[done], ((0, 0), (0, 0), (0, last - t - 1)), constant_values=model.end_id)
        best[alive[done]], best_scores[alive[done]] = best_of(
            N, np.concatenate([ended[done], unended], 1), ended_scores[done], reachable[done]
        )
        if done.all():
            break
        left = np.flatnonzero(~done)
        alive, cross = alive[left], keep_rows(cross, ~done)
        own = [array[left[:, None], parent[left]] for array in own]
        tokens, live, ended, ended_scores = keep_rows([tokens, live, ended, ended_scores], ~done)
    return best, best_scores


def best_of(
    N: int, tokens: np.ndarray, ended_scores: np.ndarray, live_scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The N best of a picture's pool (U, K), then of the beams that never ended (U, K) -> (U, N, T), (U, N)."""
    scores = np.concatenate([ended_scores, live_scores], 1)  # each half best first
    group = np.concatenate([2 * np.isneginf(ended_scores), np.ones_like(live_scores)], 1)  # 2: empty places of the pool
    best = group.argsort(axis=1, kind="stable")[:, :N]
    return pick_beams(tokens, best), np.take_along_axis(scores, best, 1)


def pick_beams(array: np.ndarray, beams: np.ndarray) -> np.ndarray:
    """(U, N, ...) and places (U, K) -> (U, K, ...)."""
    return array[np.arange(len(array))[:, None], beams]
