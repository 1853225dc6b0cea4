"""CLIPScore (Hessel et al. 2021, arXiv 2104.08718), which needs a CLIP model: how well a caption fits its picture.

Gives its values, or one line that says why there are none. It looks at the pictures, not at references.
"""

import numpy as np
import torch
from transformers import AutoProcessor, CLIPModel

from basics.errors import reason_of
from basics.hub_files import check_reachable
from networks.encoder import prepare_pixels, quiet_transformers
from scoring.metric import OutsideScore
from sources.images import load_image
from sources.shards.picture import Picture

CLIP_PROMPT = "A photo depicts "  # as the paper has it
CLIP_WEIGHT = 2.5
BATCH = 32


def clip_score(model_name: str, paths: list[Picture], captions: list[str], device: torch.device) -> OutsideScore | str:
    """2.5 * max(cosine of picture and caption, 0)."""
    try:
        check_reachable(model_name)
        with quiet_transformers():
            model = CLIPModel.from_pretrained(model_name, dtype=torch.float32).eval()
            processor = AutoProcessor.from_pretrained(model_name)
            model.to(device)  # type: ignore[arg-type]  # the annotation of its to() loses self
    except Exception as error:  # a wrong folder or file fails in as many ways as there are models
        return f"unavailable: CLIP_SCORE_MODEL_NAME {model_name} cannot be loaded: {reason_of(error)}"
    per_image = []
    with torch.inference_mode():
        for start in range(0, len(paths), BATCH):
            texts = [CLIP_PROMPT + caption for caption in captions[start : start + BATCH]]
            tokens = processor.tokenizer(texts, return_tensors="pt", padding=True, truncation=True).to(device)
            pixels = prepare_pixels(processor.image_processor, map(load_image, paths[start : start + BATCH])).to(device)
            output = model(**tokens, pixel_values=pixels)
            cosines = (output.image_embeds * output.text_embeds).sum(-1)  # both have length 1
            per_image += (CLIP_WEIGHT * cosines.clamp(min=0)).tolist()
    return OutsideScore(float(np.mean(per_image)), per_image)
