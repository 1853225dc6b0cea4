"""dataset_flickr8k.json, dataset_flickr30k.json, dataset_coco.json: Karpathy's captions and splits."""

import json

from sources.raw_captions import RawCaptions
from sources.text_files import text_of


def read_karpathy(raw: RawCaptions) -> None:
    """{"images": [{"filename": ..., "filepath" in COCO, "split": ..., "sentences": [{"raw": ...}, ...]}, ...]}."""
    for image in json.loads(text_of(raw.files[0]))["images"]:
        name = "/".join(part for part in (image.get("filepath"), image["filename"]) if part)
        for sentence in image["sentences"]:
            raw.add(name, sentence["raw"])
        raw.assign(name, image["split"])
