"""photo.jpg beside photo.txt."""

from basics.errors import UserError
from basics.paths import is_utf8, shown
from sources.images import IMAGE_SUFFIXES
from sources.raw_captions import RawCaptions
from sources.text_files import lines_of


def read_text_a_picture(raw: RawCaptions) -> None:
    """A caption a line in the text file of each picture."""
    pictures = {path.stem: path.name for path in raw.files[0].parent.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
    raw.files = [path for path in raw.files if path.stem in pictures]
    if not raw.files:
        raise UserError(
            "text files, but none with the name of a picture: expected photo.jpg and photo.txt side by side"
        )
    odd = [path for path in raw.files if not is_utf8(path.name)]
    raw.files = [path for path in raw.files if path not in odd]
    raw.notes += [f"{shown(path.name)} left out: the name is no UTF-8; rename it and its picture" for path in odd]
    for path in raw.files:
        raw.add(pictures[path.stem], "")  # named, though its file may be empty
        for _, line in lines_of(path):
            raw.add(pictures[path.stem], line)
