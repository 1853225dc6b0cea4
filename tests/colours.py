"""A classifier of colours small enough to learn them in a second, and labelled pictures as they lie prepared."""

import json
from pathlib import Path

import torch
from PIL import Image
from tiny import tiny_settings

from classifier.folder import Classifier, save_classifier, training_config
from networks.classifiers import build_classifier
from networks.encoder import prepare_pixels

COLOURS = ["blue", "green", "red"]


def colour(name: str, shade: int = 0) -> Image.Image:
    """A picture of nothing but that colour, of one of 50 shades."""
    return Image.new(
        "RGB", (40, 30), tuple(255 - shade if name == each else shade for each in ("red", "green", "blue"))
    )


def save_colours(folder: Path, **changes) -> Classifier:
    """A trained classifier, saved as best/ is."""
    settings = tiny_settings(**changes)
    torch.manual_seed(0)
    model, processor = build_classifier(settings, COLOURS)
    pixels = prepare_pixels(processor, [colour(name, shade) for name in COLOURS for shade in (0, 20, 40)])
    labels = torch.arange(3).repeat_interleave(3)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(pixels), labels).backward()
        optimizer.step()
    config = training_config(model.head_name, settings.to_dict(), epoch=1)
    classifier = Classifier(model.eval(), COLOURS, processor, config)
    save_classifier(classifier, folder, epoch=1, extra_files={})
    return classifier


def save_labelled(folder: Path, labels: list[str], pictures: list[str] | None = None) -> Path:
    """Prepared data whose val split has a picture for each label, of that colour unless pictures name others."""
    (folder / "images").mkdir(parents=True)
    names = [f"{i}.png" for i in range(len(labels))]
    for i, (name, shown) in enumerate(zip(names, pictures or labels)):
        colour(shown, i % 50).save(folder / "images" / name)
    captions = {name: [label] for name, label in zip(names, labels)}
    for file, content in (
        ("captions.json", captions),
        ("splits.json", {"train": [], "val": names, "test": []}),
        ("dataset.json", {"image_dir": "images"}),
    ):
        (folder / file).write_text(json.dumps(content))
    return folder
