"""A folder of captioned pictures as a user may have it: what the tests of preparing share."""

from pathlib import Path

from PIL import Image


def make_own_folder(folder: Path) -> Path:
    """40 pictures, two captions each, in captions.csv."""
    folder.mkdir()
    lines = ["image,caption"]
    for i in range(40):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / f"{i}.png")
        lines += [f"{i}.png,a picture number {i}", f"{i}.png,number {i}"]
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")
    return folder
