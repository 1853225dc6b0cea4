"""Scores that need more than this project: METEOR and SPICE (Java and pycocoevalcap), CLIPScore (a CLIP model).

Each gives its values, or one line that says why there are none; nothing is ever put in their place.
"""

import contextlib
import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scoring.penn_treebank import words

CLIP_PROMPT = "A photo depicts "  # Hessel et al. 2021
CLIP_WEIGHT = 2.5
BATCH = 32


@dataclass
class Values:
    """A score of the whole set and of each picture."""

    score: float
    per_image: list[float]

    @property
    def summary(self) -> dict[str, float]:
        """The score and the 95% bootstrap interval of the mean over pictures, moved to it: METEOR's is no mean."""
        random = np.random.default_rng(0)
        values = np.array(self.per_image)
        means = [random.choice(values, len(values)).mean() for _ in range(1000)]
        low, high = (np.percentile(means, (2.5, 97.5)) - values.mean() + self.score).tolist()
        return {"score": self.score, "low": low, "high": high}


def java_score(name: str, captions: list[str], references: list[list[str]]) -> Values | str:
    """METEOR (Denkowski & Lavie 2014) or SPICE (Anderson et al. 2016) by pycocoevalcap's own Java programs."""
    if shutil.which("java") is None:
        return "unavailable: there is no `java` on this machine"
    try:
        from pycocoevalcap.meteor.meteor import Meteor
        from pycocoevalcap.spice.spice import Spice
    except ImportError:
        return "unavailable: pip install pycocoevalcap"
    os.environ.setdefault("JAVA_TOOL_OPTIONS", "-Dfile.encoding=UTF-8")
    expected = {i: [words(reference) for reference in row] for i, row in enumerate(references)}
    found = {i: [words(caption)] for i, caption in enumerate(captions)}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            scorer = {"METEOR": Meteor, "SPICE": Spice}[name]()
            score, rows = scorer.compute_score(expected, found)
    except Exception as error:  # downloads, Java versions, memory: their programs fail in many ways
        return f"unavailable: {' '.join(str(error).split())[:150] or type(error).__name__}"
    per_image = [row["All"]["f"] if isinstance(row, dict) else float(row) for row in rows]
    return Values(float(score), per_image)


def clip_score(model_name: str, paths: list[Path], captions: list[str], device) -> Values | str:
    """CLIPScore (Hessel et al. 2021, arXiv 2104.08718): 2.5 * max(cosine of picture and caption, 0)."""
    import torch
    from transformers import AutoProcessor, CLIPModel

    from networks.encoder import quiet_transformers
    from sources.images import load_image

    try:
        with quiet_transformers():
            model = CLIPModel.from_pretrained(model_name, dtype=torch.float32).to(device).eval()
            processor = AutoProcessor.from_pretrained(model_name)
    except Exception as error:  # a wrong folder or file fails in as many ways as there are models
        return f"unavailable: CLIP_SCORE_MODEL_NAME {model_name} cannot be loaded: {' '.join(str(error).split())[:150]}"
    per_image = []
    with torch.inference_mode():
        for start in range(0, len(paths), BATCH):
            texts = [CLIP_PROMPT + caption for caption in captions[start : start + BATCH]]
            images = [load_image(path) for path in paths[start : start + BATCH]]
            inputs = processor(text=texts, images=images, return_tensors="pt", padding=True, truncation=True).to(device)
            output = model(**inputs)
            cosines = (output.image_embeds * output.text_embeds).sum(-1)  # both have length 1
            per_image += (CLIP_WEIGHT * cosines.clamp(min=0)).tolist()
    return Values(float(np.mean(per_image)), per_image)
