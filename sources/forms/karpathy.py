"""dataset_flickr8k.json, dataset_flickr30k.json, dataset_coco.json: Karpathy's captions and splits."""

from basics.stored import parse_json
from sources.raw_captions import RawCaptions
from sources.text_files import at, text_of


def read_karpathy(raw: RawCaptions) -> None:
    """{"images": [{"filename": ..., "filepath" in COCO, "split": ..., "sentences": [{"raw": ...}, ...]}, ...]}."""
    path = raw.files[0]
    with at(str(path)):
        images = parse_json(text_of(path), "the file")["images"]
    for number, image in enumerate(images, 1):
        with at(f"{path}, image {number}"):
            name = "/".join(part for part in (image.get("filepath"), image["filename"]) if part)
            for sentence in image["sentences"]:
                raw.add(name, sentence["raw"])
            raw.assign(name, image["split"])
