"""A split's pictures captioned and scored, with a signature that says when two numbers may be compared.

evaluation = evaluate_files(captioner, pictures, options, precision, batch_size)    # each picture is decoded once
captions = caption_pixels(captioner, read, numbers, options, precision)             # read(numbers) -> pixels
evaluation = score_evaluation(captions, pictures, options, precision, path)
evaluation.table["CIDEr-D"]                      # {"score": ..., "low": ..., "high": ...}
json_text(evaluation_record(evaluation))         # every caption with its own scores
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from basics.devices import autocast
from basics.progress_bar import progress_bar
from captioner.any_captioner import AnyCaptioner
from captioner.folder import Captioner
from captioner.picture_files import caption_picture_files
from networks.caption import Captioned
from networks.decoding_options import DecodingOptions
from scoring.collapse import collapse_warnings, measure_collapse
from scoring.metrics import Scores, score_captions
from scoring.penn_treebank import words
from scoring.signature import checkpoint_hash, data_hash, dtype_name
from sources.pictures import Pictures, leave_out

BATCH = 32  # prepared pictures captioned at once


@dataclass
class Evaluation:
    """Captions of pictures, how good they are, and in `signature` all that decided the numbers."""

    checkpoint: str
    pictures: Pictures
    captions: list[Captioned]  # of each picture
    scores: Scores
    table: dict[str, dict[str, float]]  # name -> {"score", "low", "high"}: the score and its 95% interval
    per_image: dict[str, list[float]]
    exact: int  # captions that equal a reference
    collapse: dict  # as collapse.measure_collapse() gives it
    signature: str
    not_computed: dict[str, str] | None = None  # scores that were asked about, and why they are not there

    @property
    def texts(self) -> list[str]:
        return [text for text, _ in self.captions]


def evaluate_files(
    captioner: AnyCaptioner, pictures: Pictures, options: DecodingOptions, precision: torch.dtype, batch_size: int
) -> Evaluation:
    """Caption and score what can be read of the pictures; the others are left out. Raises UserError if none can."""
    with autocast(captioner.device, precision):
        found = caption_picture_files(captioner, pictures.paths, options, batch_size)
        rows = list(progress_bar(found, total=len(pictures.paths), desc="captioning", unit=" pictures"))
    pictures = leave_out(pictures, [row.error for row in rows])
    captions = [row.answers[0] for row in rows if row.error is None]
    return score_evaluation(captions, pictures, options, precision, captioner.path)


def caption_pixels(
    captioner: Captioner,
    read: Callable[[list[int]], Tensor],
    numbers: list[int],
    options: DecodingOptions,
    precision: torch.dtype,
) -> list[Captioned]:
    """Captions as evaluate_files() has them, where read(numbers) gives prepared pixels of pictures by number."""
    with autocast(captioner.device, precision):
        return caption_all(captioner, read, numbers, options, BATCH)


def caption_all(
    captioner: Captioner | AnyCaptioner,
    read: Callable[[list[int]], Tensor],
    numbers: list[int],
    options: DecodingOptions,
    batch_size: int,
) -> list[Captioned]:
    """The best caption of each picture by number; read(numbers) gives what the model encodes."""
    found = []
    with progress_bar(total=len(numbers), desc="captioning", unit=" pictures", interval=1) as bar:
        for start in range(0, len(numbers), batch_size):
            batch = numbers[start : start + batch_size]
            found += [row[0] for row in captioner.caption_pixels(read(batch), options)]
            bar.update(len(batch))
    return found


def score_evaluation(
    captions: list[Captioned], pictures: Pictures, options: DecodingOptions, precision: torch.dtype, checkpoint: str
) -> Evaluation:
    """Scores with intervals, collapse measures and the scores of each picture."""
    texts, references = [text for text, _ in captions], pictures.references
    scores = score_captions(texts, references)
    return Evaluation(
        checkpoint,
        pictures,
        captions,
        scores,
        dict(scores.table),
        {name: values.tolist() for name, values in scores.per_image.items()},
        sum(words(text) in map(words, row) for text, row in zip(texts, references)),
        measure_collapse(texts, [caption.finished for _, caption in captions], references),
        sign(pictures, options, precision, checkpoint),
    )


def sign(pictures: Pictures, options: DecodingOptions, precision: torch.dtype, checkpoint: str) -> str:
    """All that decides the numbers, in one line: only scores whose lines agree up to the checkpoint compare models."""
    decoding = (
        "greedy" if options.beam_size == 1 else f"beam:{options.beam_size},length-penalty:{options.length_penalty:g}"
    )
    references = sum(map(len, pictures.references)) / len(pictures.references)
    return (
        f"tokenizer:ptb-3.4.1|split:{pictures.split}|images:{len(pictures.paths)}|references:{references:g}|"
        f"data:{data_hash(pictures)}|{decoding},max-len:{options.max_seq_len}|precision:{dtype_name(precision)}|"
        f"checkpoint:{checkpoint_hash(checkpoint)}"
    )


def evaluation_record(evaluation: Evaluation) -> dict:
    """All of an evaluation as its JSON file has it."""
    more = {} if evaluation.not_computed is None else {"not_computed": evaluation.not_computed}
    return {
        "checkpoint": evaluation.checkpoint,
        "scores": evaluation.table,
        "exact": evaluation.exact,
        "collapse": evaluation.collapse,
        "signature": evaluation.signature,
        **more,
        "warnings": collapse_warnings(evaluation.collapse),
        "left_out": evaluation.pictures.left_out,
        "images": picture_records(evaluation),
    }


def picture_records(evaluation: Evaluation) -> list[dict]:
    pictures = evaluation.pictures
    return [
        {
            "image": path.name,
            "caption": text,
            "references": row,
            "log_probability": round(caption.score, 4),
            "finished": caption.finished,
            "scores": {name: round(values[i], 6) for name, values in evaluation.per_image.items()},
        }
        for i, (path, row, (text, caption)) in enumerate(zip(pictures.paths, pictures.references, evaluation.captions))
    ]
