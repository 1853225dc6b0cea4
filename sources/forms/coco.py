"""captions_train2017.json and captions_val2017.json: COCO, a file a split."""

from basics.stored import parse_json
from sources.raw_captions import RawCaptions
from sources.text_files import at, text_of


def read_coco(raw: RawCaptions) -> None:
    """{"images": [...], "annotations": [...]}; the images are in folders named like the file."""
    for path in raw.files:
        with at(str(path)):
            content = parse_json(text_of(path), "the file")
            images, annotations = content["images"], content["annotations"]
        part, names = path.stem.removeprefix("captions_"), {}  # "train2017"
        for number, image in enumerate(images, 1):
            with at(f"{path}, image {number}"):
                names[image["id"]] = f"{part}/{image['file_name']}"
        for number, annotation in enumerate(annotations, 1):
            with at(f"{path}, annotation {number}"):
                raw.add(names[annotation["image_id"]], annotation["caption"])
        for name in names.values():
            raw.assign(name, "train" if part.startswith("train") else "val")
