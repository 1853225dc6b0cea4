"""captions_train2017.json and captions_val2017.json: COCO, a file a split."""

import json

from sources.raw_captions import RawCaptions
from sources.text_files import text_of


def read_coco(raw: RawCaptions) -> None:
    """{"images": [...], "annotations": [...]}; the images are in folders named like the file."""
    for path in raw.files:
        content = json.loads(text_of(path))
        part = path.stem.removeprefix("captions_")  # "train2017"
        names = {image["id"]: f"{part}/{image['file_name']}" for image in content["images"]}
        for annotation in content["annotations"]:
            raw.add(names[annotation["image_id"]], annotation["caption"])
        for name in names.values():
            raw.assign(name, "train" if part.startswith("train") else "val")
