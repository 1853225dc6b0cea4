"""Class folders as a user may have them: what the tests of labelled pictures share."""

from pathlib import Path

from PIL import Image


def make_class_folders(folder: Path, counts: dict[str, int], first: int = 0) -> Path:
    """{"train/cat": 3} -> train/cat/0.png and so on, each of a colour that no other has."""
    for place, count in counts.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("RGB", (4, 4), (first // 256, first % 256, 9)).save(folder / place / f"{number}.png")
            first += 1
    return folder
