"""photo.jpg beside photo.txt."""

from basics.errors import UserError
from sources.images import IMAGE_SUFFIXES
from sources.raw_captions import RawCaptions
from sources.text_files import text_of


def read_text_a_picture(raw: RawCaptions) -> None:
    """A caption a line in the text file of each picture."""
    pictures = {path.stem: path.name for path in raw.files[0].parent.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
    raw.files = [path for path in raw.files if path.stem in pictures]
    if not raw.files:
        raise UserError(
            "text files, but none with the name of a picture: expected photo.jpg and photo.txt side by side"
        )
    for path in raw.files:
        for line in text_of(path).splitlines() or [""]:
            raw.add(pictures[path.stem], line)
