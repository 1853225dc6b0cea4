"""METEOR, SPICE and CLIPScore for an evaluation: what is asked for and possible; nothing is ever put in their place."""

import torch

from basics.settings import constants
from scoring.evaluation import Evaluation
from scoring.java_metrics import java_score
from scoring.metric import OutsideScore


def add_extra_scores(evaluation: Evaluation, meteor: bool, spice: bool, device: torch.device) -> None:
    """Put them into the evaluation's table, and beside it why others are not there."""
    texts, pictures = evaluation.texts, evaluation.pictures
    computed: dict[str, OutsideScore | str] = {
        name: java_score(name, texts, pictures.references) if asked else f"not computed (--{name.lower()}; needs Java)"
        for name, asked in {"METEOR": meteor, "SPICE": spice}.items()
    }
    if name := constants().CLIP_SCORE_MODEL_NAME:
        from scoring.clip_score import clip_score  # CLIP takes its time to import

        computed["CLIPScore"] = clip_score(name, pictures.paths, texts, device)
    evaluation.not_computed = {name: value for name, value in computed.items() if isinstance(value, str)}
    for name, value in computed.items():
        if isinstance(value, OutsideScore):
            evaluation.table[name] = value.summary
            evaluation.per_image[name] = value.per_image
