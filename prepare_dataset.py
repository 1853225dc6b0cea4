"""Make a dataset ready: captions or classes, splits by image, a check of every picture, a short report.

    python prepare_dataset.py                                       # the drawn shapes
    python prepare_dataset.py --dataset flickr8k --raw-dir PATH     # any raw form, recognised by looking
    python prepare_dataset.py --task classify --dataset folder --raw-dir PATH       # a class a picture

Writes DATA_DIR/<DATASET>/, of TASK classify DATA_DIR/<DATASET>-classify/. train.py prepares too; where nothing has
changed it does nothing.
"""

import basics.starting  # noqa: F401  # first of all: for the seconds that the others take

# isort: split
import shlex

from basics.errors import run_script
from basics.settings import help_text, load_settings
from sources.kinds import data_kind
from sources.prepare import prepare, preparing
from tokenizer import build_tokenizer

USAGE = "python prepare_dataset.py [--dataset NAME] [--raw-dir PATH] [--setting VALUE ...]"


def main(argv: list[str]) -> int:
    if "--help" in argv or "-h" in argv:
        print(help_text(USAGE))
        return 0
    settings = load_settings(argv)
    with preparing(settings):
        prepare(settings, data_kind(settings, lambda captions: build_tokenizer(settings, captions)))
    print(f"next         python train.py {shlex.join(argv)}".rstrip())
    return 0


if __name__ == "__main__":
    run_script(main)
